"""What programs of any kind need: files, threads, processes, memory, progress."""
