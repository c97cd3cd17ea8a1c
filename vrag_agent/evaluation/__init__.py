"""Evaluation: one engine that plays questions with policies, one set of metrics, intervals and comparisons.

``engine`` plays and keeps every episode in a journal, ``measures`` says what is measured on one episode,
``summary`` adds it up, ``compare`` sets two runs side by side. ``methods`` holds the baselines, ``local`` and
``server`` the models that they ask. Nothing here imports torch unless a local model is loaded.
"""
