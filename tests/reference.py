# SPDX-License-Identifier: Apache-2.0
"""The formula of every loss again, in NumPy float64, from its paper.

Written without a look at the implementation, so that the two can disagree.
A method named `SoftTargets` has its twin in a function `soft_targets`, which
returns one value per example.
"""

from __future__ import annotations

import functools

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits):
    return np.exp(log_softmax(logits))


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits))


def kl(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def soft_targets(
    teacher, student, temperature=4.0, divergence="forward_kl", beta=0.5
):
    """Hinton et al. 2015: T^2 KL(p || q), summed over classes.

    Agarwal et al. 2023: also KL(q || p), and for their mixture m
    beta KL(p || m) + (1 - beta) KL(q || m).
    """
    p = log_softmax(teacher / temperature)
    q = log_softmax(student / temperature)
    m = np.log(beta * np.exp(p) + (1 - beta) * np.exp(q))
    return (
        temperature**2
        * {
            "forward_kl": kl(p, q),
            "reverse_kl": kl(q, p),
            "jensen_shannon": beta * kl(p, m) + (1 - beta) * kl(q, m),
        }[divergence]
    )


def hard_targets(teacher, student):
    """Touvron et al. 2020: cross-entropy with the teacher's choice."""
    choice = np.eye(teacher.shape[-1])[teacher.argmax(axis=-1)]
    return -(choice * log_softmax(student)).sum(axis=-1)


def without_label(array, labels):
    """Returns the array with one column less, that of the label."""
    keep = np.arange(array.shape[-1]) != labels[..., None]
    return array[keep].reshape(*array.shape[:-1], -1)


def at_label(array, labels):
    return np.take_along_axis(array, labels[..., None], axis=-1)[..., 0]


def decoupled(
    teacher,
    student,
    labels,
    target_weight=1.0,
    non_target_weight=8.0,
    temperature=4.0,
):
    """Zhao et al. 2022: T^2 (alpha TCKD + beta NCKD)."""
    teacher, student = teacher / temperature, student / temperature
    log_b = []
    for logits in (teacher, student):
        log_p = log_softmax(logits)
        rest = without_label(log_p, labels)
        top = rest.max(axis=-1)
        rest = top + np.log(np.exp(rest - top[..., None]).sum(axis=-1))
        log_b.append(np.stack([at_label(log_p, labels), rest], axis=-1))
    others = [
        log_softmax(without_label(logits, labels))
        for logits in (teacher, student)
    ]
    tckd, nckd = kl(*log_b), kl(*others)
    return temperature**2 * (target_weight * tckd + non_target_weight * nckd)


def normalized_targets(teacher, student, labels, gamma=1.5, temperature=1.0):
    """Yang et al. 2023: -t_y log s_y - gamma T^2 sum_{i != y} T_i log S_i."""
    t, log_s = softmax(teacher), log_softmax(student)
    target = -at_label(t, labels) * at_label(log_s, labels)
    t_hat = softmax(without_label(teacher, labels) / temperature)
    log_s_hat = log_softmax(without_label(student, labels) / temperature)
    others = -(t_hat * log_s_hat).sum(axis=-1)
    return target + gamma * temperature**2 * others


def pearson(a, b, epsilon=1e-8):
    """Along the last axis, with the guard of the code of DIST."""
    a = a - a.mean(axis=-1, keepdims=True)
    b = b - b.mean(axis=-1, keepdims=True)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / (lengths + epsilon)


def correlation(
    teacher, student, temperature=1.0, inter_weight=1.0, intra_weight=1.0
):
    """Huang et al. 2022, with tau^2 as in the authors' code."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    inter = 1.0 - pearson(p, q)
    columns = [a.reshape(-1, a.shape[-1]).T for a in (p, q)]
    intra = 1.0 - pearson(*columns).mean()
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def standardized_targets(teacher, student, *labels, inner=None):
    """Sun et al. 2024: another loss, here on z-scores of both logits."""
    inner = inner or functools.partial(soft_targets, temperature=2.0)
    scores = [
        (z - z.mean(axis=-1, keepdims=True)) / z.std(axis=-1, keepdims=True)
        for z in (teacher, student)
    ]
    return inner(*scores, *labels)


def bernoulli_targets(teacher, student, temperature=4.0):
    """The same between yes/no units, one value per unit."""
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * kl


def feature_matching(teacher, student):
    """Romero et al. 2014: mean squared error over a position's features."""
    return np.square(teacher - student).sum(axis=-1) / teacher.shape[-1]


def regression(teacher, student, labels=None, margin=None):
    """Chen et al. 2017: ||y - s||^2 where it is above ||y - t||^2 - m."""
    goal = teacher if margin is None else labels
    errors = np.square(student - goal).sum(axis=-1) / student.shape[-1]
    if margin is None:
        return errors
    bound = np.square(teacher - labels).sum(axis=-1) / student.shape[-1]
    return errors * (errors + margin > bound)


def averaged(maps, axis, wanted):
    """Adaptive average pooling of one axis, bin by bin."""
    size, bins = maps.shape[axis], []
    for i in range(wanted):
        first = int(np.floor(i * size / wanted))
        end = int(np.ceil((i + 1) * size / wanted))
        part = np.take(maps, range(first, end), axis=axis)
        bins.append(part.mean(axis=axis))
    return np.stack(bins, axis=axis)


def attention_transfer(teacher, student):
    """Zagoruyko, Komodakis 2016: squared maps, averaged over channels."""
    looks = []
    for maps, other in ((teacher, student), (student, teacher)):
        for axis in range(1, maps.ndim - 1):
            if maps.shape[axis] > other.shape[axis]:
                maps = averaged(maps, axis, other.shape[axis])
        look = (maps**2).mean(axis=-1).reshape(len(maps), -1)
        looks.append(look / np.linalg.norm(look, axis=1, keepdims=True))
    return ((looks[0] - looks[1]) ** 2).mean(axis=1)


def similarity_preserving(teacher, student):
    """Tung, Mori 2019: ||G_t - G_s||_F^2 / B^2, here by row times B."""
    gram = []
    for features in (teacher, student):
        flat = features.reshape(len(features), -1)
        g = np.einsum("if,jf->ij", flat, flat)
        gram.append(g / np.sqrt((g**2).sum(axis=1))[:, None])
    return ((gram[0] - gram[1]) ** 2).sum(axis=1) / len(teacher)


def huber(error):
    error = abs(error)
    return 0.5 * error**2 if error <= 1.0 else error - 0.5


def relational(teacher, student, distance_weight=25.0, angle_weight=50.0):
    """Park et al. 2019, pair by pair and triplet by triplet."""
    n, distances, cosines = len(teacher), [], []
    for points in (teacher.reshape(n, -1), student.reshape(n, -1)):
        d = np.array([[np.linalg.norm(a - b) for a in points] for b in points])
        distances.append(d / d[d > 0].mean())
        angles = np.zeros((n, n, n))
        for i, j, k in np.ndindex(n, n, n):
            if d[i, j] > 0 and d[i, k] > 0:
                product = (points[j] - points[i]) @ (points[k] - points[i])
                angles[i, j, k] = product / d[i, j] / d[i, k]
        cosines.append(angles)
    far = np.vectorize(huber)(distances[0] - distances[1])
    turned = np.vectorize(huber)(cosines[0] - cosines[1])
    far, turned = far.mean(axis=1), turned.mean(axis=(1, 2))
    return distance_weight * far + angle_weight * turned


def review(teacher, student):
    """Chen et al. 2021: the HCL of one stage, grid by grid."""
    grids, weights = [(teacher, student)], [1.0]
    for size in (4, 2, 1):
        if teacher.ndim > 2 and size < min(teacher.shape[1:-1]):
            pair = (teacher, student)
            for axis in range(1, teacher.ndim - 1):
                pair = [averaged(maps, axis, size) for maps in pair]
            grids.append(pair)
            weights.append(weights[-1] / 2)
    errors = [((t - s) ** 2).reshape(len(t), -1).mean(1) for t, s in grids]
    return np.average(errors, axis=0, weights=weights)


def contrastive(teacher, log_ratios):
    """Tian et al. 2020, eq. 18, as probabilities among n samples."""
    n, k = 1000.0, log_ratios.shape[-1] - 1
    model, noise = np.exp(log_ratios) / n, 1.0 / n
    own = np.log(model / (model + k * noise))[..., 0]
    others = np.log(k * noise / (model + k * noise))[..., 1:]
    return -(own + others.sum(axis=-1)).sum(axis=-1)


def channel_wise(teacher, student, temperature=4.0):
    """Shu et al. 2020: KL over positions, mean over channels, times tau^2."""
    log_p, log_q = (
        log_softmax(
            np.moveaxis(maps, -1, 1).reshape(len(maps), maps.shape[-1], -1)
            / temperature
        )
        for maps in (teacher, student)
    )
    return temperature**2 * kl(log_p, log_q).mean(axis=1)


def hidden_states(teacher, student, metric="cosine"):
    """Sanh et al. 2019 (cosine) and Jiao et al. 2019 (mse)."""
    if metric == "mse":
        return ((teacher - student) ** 2).mean(axis=-1)
    lengths = [np.linalg.norm(h, axis=-1) for h in (teacher, student)]
    return 1.0 - (teacher * student).sum(axis=-1) / lengths[0] / lengths[1]


def attention_maps(teacher, student):
    """Jiao et al. 2019: MSE of attention, masked scores set to 0."""
    teacher, student = (np.where(a <= -100, 0, a) for a in (teacher, student))
    if teacher.shape[1] != student.shape[1]:
        teacher, student = teacher.mean(axis=1), student.mean(axis=1)
        return ((teacher - student) ** 2).mean(axis=-1)
    return ((teacher - student) ** 2).mean(axis=-1).mean(axis=1)


def ranking(
    teacher,
    student,
    top_k=10,
    position_decay=1.0,
    dynamic=False,
    discrepancy=0.1,
):
    """Tang, Wang 2018, user by user and rank by rank."""
    values = []
    for target, scores in zip(teacher, student, strict=True):
        allowed = [i for i in range(len(target)) if target[i] > -1e9]
        best = sorted(allowed, key=lambda i: -target[i])[:top_k]
        theirs = sorted(allowed, key=lambda i: -scores[i])
        static = np.exp(-np.arange(1, len(best) + 1) / position_decay)
        static = static / static.sum() if best else static
        value = 0.0
        for rank, item in enumerate(best):
            weight = static[rank]
            if dynamic:
                behind = theirs.index(item) - rank
                weight *= max(0.0, np.tanh(discrepancy * behind))
            value += weight * np.logaddexp(0.0, -scores[item])
        values.append(value)
    return np.array(values)


def top_k_target(teacher, k):
    """The k largest log-probabilities, and log-masses of all the others."""
    log_p = log_softmax(teacher)
    ids = np.argsort(-log_p, axis=-1)
    ordered = np.take_along_axis(log_p, ids, axis=-1)
    best, others = ordered[..., k], ordered[..., k:] - ordered[..., k, None]
    tail = [
        best / temperature + np.log(np.exp(others / temperature).sum(axis=-1))
        for temperature in (1.0, 2.0, 4.0, 8.0, 20.0)
    ]
    return {
        "ids": ids[..., :k],
        "log_probs": ordered[..., :k],
        "tail": np.stack(tail, axis=-1),
    }


def sparse_soft_targets(teacher, student, k, temperature=4.0):
    """T^2 KL between the dense distributions with all but k classes joined."""
    ids = np.argsort(-teacher, axis=-1)
    joined = []
    for logits in (teacher, student):
        log_p = log_softmax(logits / temperature)
        log_p = np.take_along_axis(log_p, ids, axis=-1)
        others = log_p[..., k:]
        top = others.max(axis=-1, keepdims=True)
        others = top + np.log(np.exp(others - top).sum(-1, keepdims=True))
        joined.append(np.concatenate([log_p[..., :k], others], axis=-1))
    return temperature**2 * kl(*joined)


def sampled_soft_targets(ids, weights, student, temperature=1.0):
    """Anshumann et al. 2025: -T^2 sum_drawn (count / draws) log q."""
    log_q = log_softmax(student / temperature)
    values = np.zeros(student.shape[:-1])
    for place in np.ndindex(values.shape):
        draws = sum(weights[place])
        for class_id, count in zip(ids[place], weights[place], strict=True):
            values[place] -= count / draws * log_q[place][class_id]
    return temperature**2 * values


def calibration_error(confidences, is_right, bins=15):
    """Guo et al., 2017, equation 3: bins open below and closed above."""
    confidences, is_right = map(np.asarray, (confidences, is_right))
    error = 0.0
    for m in range(1, bins + 1):
        inside = (confidences > (m - 1) / bins) & (confidences <= m / bins)
        if inside.any():
            gap = is_right[inside].mean() - confidences[inside].mean()
            error += inside.sum() / len(confidences) * abs(gap)
    return error
