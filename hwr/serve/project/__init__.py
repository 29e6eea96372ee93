"""The project on disk: a folder with page images, a PAGE file beside each, and a database of jobs."""
