"""What several verbs share: which model a path means, where training writes, what a folder has to say."""

__all__: list[str] = []
