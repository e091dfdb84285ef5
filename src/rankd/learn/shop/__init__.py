"""A simulated outdoor shop: everything the demo ranks, made up, and the same for the same seed.

    catalogue   products, and what about them matters
    people      users with tastes, and the queries they type
    retrieval   BM25 over titles: the search engine in front of rankd
    behaviour   true relevance, which only the simulator knows; clicks, which the shop sees
    logs        signals from the clicks of the past, corrected for position

Nobody but `behaviour` sees true relevance; signals and training data are made from clicks alone.
"""
