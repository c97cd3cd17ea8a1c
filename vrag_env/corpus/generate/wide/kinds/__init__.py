"""The drawings of the kinds of page, one module for each or for two that are alike."""
