"""What rankd says about itself: log lines and traces.

Must live here: names of attributes, how a span is made and exported, how a line is
formatted and held back. Must not: what is worth saying; the servers decide that.
"""
