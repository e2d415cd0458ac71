"""One DNS question and its answer. Only this package knows dnspython."""
