"""A logistic regression over words and word pairs: what can be predicted without word order and without pre-training."""

from __future__ import annotations

from benchmarks.quality.encoder_tasks.data import Labels, read_file

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of scikit-learn's C; the best on the validation split counts


def bag_of_words(labels: Labels) -> float:
    """The task's figure on its most telling split."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, matthews_corrcoef

    score = accuracy_score if labels.task.figure == "accuracy" else matthews_corrcoef
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    texts, wanted = read_file(labels.train)
    features = vectorizer.fit_transform(texts)
    fitted = [
        LogisticRegression(C=c, max_iter=2000, class_weight=weight).fit(features, wanted)
        for c in STRENGTHS
        for weight in (None, "balanced")
    ]

    def scored(model: LogisticRegression, split: str) -> float:
        texts, wanted = read_file(labels.file(split))
        return float(score(wanted, model.predict(vectorizer.transform(texts))))

    best = max(fitted, key=lambda model: scored(model, "validation"))
    return scored(best, labels.task.measured[0])
