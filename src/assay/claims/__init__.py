"""The book of claims: one file a claim (`c01.py` ... `c40.py`), data over what the other rooms do.

A claim is a `Claim` named CLAIM in its file. `catalogue` finds them, `book` runs them, `report.book` draws them.
To add one: copy a file, change it. Its runs are `StudySpec`s, so that equal runs of several claims are done once.
"""
