"""What a pull request is told: the gate against the champion, the report, the comment."""
