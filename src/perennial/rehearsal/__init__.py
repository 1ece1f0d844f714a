"""`make loop`: the whole life of a model in a few minutes, with real parts and a clock that runs ahead."""
