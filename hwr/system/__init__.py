"""What the operating system gives: files, folders, memory, processes, threads, signals, and the terminal."""
