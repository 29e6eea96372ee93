"""What reads: one reader for all clients, the pages of the project, and files that clients send."""
