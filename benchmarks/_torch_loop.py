# SPDX-License-Identifier: Apache-2.0
"""The distillation loop that a good engineer would write in PyTorch."""

from __future__ import annotations

import torch
from torch.nn import functional

TEMPERATURE, ALPHA, RATE, BATCH = 4.0, 0.7, 1e-3, 128


def torch_loss(teacher, student, y):
    divergence = functional.kl_div(
        functional.log_softmax(student / TEMPERATURE, dim=1),
        functional.log_softmax(teacher / TEMPERATURE, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    on_labels = functional.cross_entropy(student, y)
    return ALPHA * TEMPERATURE**2 * divergence + (1 - ALPHA) * on_labels


class Loop:
    """Shuffled index batches of tensors in memory, Adam, running figures.

    Args:
        student: Is trained.
        teacher: Answers each batch, or `None`.
        data: Inputs, labels and, without a teacher, its logits.
    """

    def __init__(self, student, teacher, *data):
        self.student, self.teacher, self.data = student, teacher, data
        self.optimizer = torch.optim.Adam(student.parameters(), RATE)

    def epoch(self) -> None:
        self.student.train()
        total = right = 0.0
        for rows in torch.randperm(len(self.data[0])).split(BATCH):
            x, y, *stored = (array[rows] for array in self.data)
            if self.teacher is not None:
                with torch.inference_mode():
                    stored = [self.teacher(x)]
            answers = self.student(x)
            loss = torch_loss(stored[0], answers, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(x)
            right += (answers.detach().argmax(1) == y).sum()
        self.found = float(total) / len(self.data[0]), float(right)
