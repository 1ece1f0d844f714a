"""A stand-in for GitHub on the loopback: what workflows ask of it, from a table of routes, with knobs for its bad days.

    with GitHub(tmp_path) as github:
        github.add_repository("octo/demo", git=bare)
        github.add_pull("octo/demo", head="feat")
        ...  # run something with github.environment("octo/demo")
        assert len(github.comments("octo/demo", 1)) == 1

Another route is a function with `@route` in routes.py. Standard library, git and openssl.
"""

from stand_in.github import GitHub as GitHub
