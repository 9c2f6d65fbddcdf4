"""Evaluate weights that train_mlp.py saved: accuracy, mean loss, a report for each class, the confusion matrix.

python examples/train_mlp.py --save model.safetensors && python examples/evaluate.py model.safetensors
python examples/evaluate.py model.safetensors --data DIR    # for weights trained on MNIST from DIR
"""

import sys

import numpy as np

import minigrad as mg
from _report import classification_report, confusion_matrix
from minigrad import nn
from minigrad.data import DataLoader
from train_mlp import Parser, Problem, chosen_device, load_digits, load_mnist, make_model


@mg.no_grad()
def predict(model, test, device="cpu"):
    """(labels, predicted classes, mean loss), the first two as NumPy arrays."""
    images, labels = test.tensors
    if images.shape[1] != model[0].in_features or labels.max() >= model[-1].out_features:
        raise Problem(f"the weights were trained on other data than these images of {images.shape[1]} pixels")
    model.eval().to(device)
    criterion, loss, predicted = nn.CrossEntropyLoss(reduction="sum"), 0.0, []
    for x, y in DataLoader(test, batch_size=1024):
        x, y = x.to(device), y.to(device)
        logits = model(x)
        loss += criterion(logits, y).item()  # a number: a sum of tensors would keep every batch's graph without no_grad
        predicted.append(logits.argmax(dim=1))  # before numpy(): an array's argmax has axis, not dim
    return labels.numpy(), mg.cat(predicted).cpu().numpy(), loss / len(labels)


def saved_model(path):
    """The network whose state dict is in ``path``; its widths are those of the weights."""
    try:
        state = mg.load(path)
        widths = [state["0.weight"].shape[1], *(len(w) for name, w in state.items() if name.endswith("weight"))]
        model = make_model(widths[0], widths[1:-1], widths[-1])
        model.load_state_dict(state)
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}") from None
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError):
        raise Problem(f"{path} is not what train_mlp.py saves: weights of a multi-layer perceptron") from None
    return model


def main(arguments=None):
    parser = Parser(prog="evaluate.py", description="Evaluate a network that train_mlp.py saved.")
    parser.add_argument("weights", metavar="FILE", help="what train_mlp.py --save wrote")
    parser.add_argument("--data", metavar="DIR", help="folder with MNIST in IDX files (default: scikit-learn's digits)")
    parser.add_argument("--device", metavar="NAME", default="cpu", help="cpu or cuda (default: cpu)")
    options = parser.parse_args(arguments)
    try:
        device = chosen_device(options.device)
        model = saved_model(options.weights)
        test = load_mnist(options.data)[1] if options.data else load_digits()[1]
        y, predicted, loss = predict(model, test, device)
    except Problem as problem:
        parser.error(problem)
    print(f"{len(y)} test images, mean loss {loss:.4f}, accuracy {np.mean(y == predicted):.4f}\n")
    print(classification_report(y, predicted))
    print(confusion_matrix(y, predicted)[1])


if __name__ == "__main__":
    sys.exit(main())
