"""How far estimates are from measurements, on what no training saw: `python -m estimator.evaluate`."""
