"""What confines a process: namespaces, Landlock, a filter of system calls, limits. Runs in the fork server, with the
standard library only.
"""
