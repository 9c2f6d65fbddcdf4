"""How often a classifier is right, class by class, as scikit-learn reports it."""

import numpy as np


def confusion_matrix(y, predicted):
    """(the classes that occur, how many of class i were called class j)"""
    labels, indices = np.unique(np.concatenate([y, predicted]), return_inverse=True)
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (indices[: len(y)], indices[len(y) :]), 1)
    return labels, counts


def classification_report(y, predicted, digits=4):
    """Precision, recall and F1 of each class, and their means: the text of scikit-learn's function of this name."""
    labels, counts = confusion_matrix(y, predicted)
    right, support, called = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    scores = [part / np.maximum(whole, 1) for part, whole in ((right, called), (right, support))]
    scores = np.array([*scores, 2 * right / (support + called)])
    total, width = support.sum(), max(len("weighted avg"), digits, *(len(str(label)) for label in labels))

    def row(name, numbers, count):
        return f"{name:>{width}} " + "".join(f" {x:>9.{digits}f}" for x in numbers) + f" {count:>9}\n"

    text = f"{'':{width}} " + "".join(f" {name:>9}" for name in ("precision", "recall", "f1-score", "support")) + "\n\n"
    text += "".join(row(str(label), numbers, count) for label, numbers, count in zip(labels, scores.T, support))
    text += f"\n{'accuracy':>{width}} {'':20} {right.sum() / total:>9.{digits}f} {total:>9}\n"
    text += row("macro avg", scores.mean(axis=1), total)
    return text + row("weighted avg", [np.average(score, weights=support) for score in scores], total)
