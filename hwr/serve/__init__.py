"""The workbench and REST API: read the pages of a folder, correct them, retrain on the corrections."""
