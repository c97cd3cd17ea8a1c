"""The web page: ask and watch an agent, take over, search, add documents, look through recorded runs.

It is built on Gradio: its queue streams turns to the page as they happen and lets one slow question block nobody
else, uploads are limited and land outside of any served folder, and all of its scripts and fonts are in its wheel, so
that nothing is requested from elsewhere (the fonts of its themes are replaced by those of the system, and a policy
in every answer forbids the browser to go anywhere else).
"""
