"""The model as an API. Imports neither pandas nor scikit-learn: the image holds neither."""
