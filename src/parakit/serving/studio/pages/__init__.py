"""One module a page of the studio; each has `build(context)`."""
