"""Demonstrations: episodes that somebody else played, kept as text and images until a policy imitates them."""

from vrag_agent.demonstrations.record import Demonstration, Message, Part
from vrag_agent.demonstrations.select import balance, reason_to_reject
from vrag_agent.demonstrations.store import DemonstrationStore

__all__ = ["Demonstration", "DemonstrationStore", "Message", "Part", "balance", "reason_to_reject"]
