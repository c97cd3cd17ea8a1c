"""Faces for other frameworks: thin renames of what an episode gives, each importing its framework inside."""
