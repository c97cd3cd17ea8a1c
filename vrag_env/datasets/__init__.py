"""Readers of the three benchmarks of VRAG-RL: from their original downloads to a corpus and questions."""

from vrag_env.datasets.download import SOURCES, download_dataset
from vrag_env.datasets.importer import DATASETS, import_dataset
from vrag_env.datasets.report import ImportReport

__all__ = ["DATASETS", "SOURCES", "ImportReport", "download_dataset", "import_dataset"]
