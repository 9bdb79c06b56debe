"""What validate.py is made of."""


def need(holds, why):
    if not holds:
        raise AssertionError(why)
