"""Search: the best matches of templates, without measuring every window.

`find` reads a call and a `bank` of templates; a `survey` of each image bounds its windows, by sums
of blocks (`pruning`, `correlated_blocks`) or by a map (`lower_bounds`, seen through its `cells`),
and measures those that are left (`direct`) `best_first`, under `suppression`. `matches` are what it
returns, refined by `subpixel`.
"""
