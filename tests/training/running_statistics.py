"""``speakervlad`` whose batch norm looks at no batch, so that parts of a batch add up exactly."""

import torch
import torch.nn.functional as F

from speakervlad.cli import main


def use_running_statistics(self, input):
    statistics = self.running_mean, self.running_var
    return F.batch_norm(input, *statistics, self.weight, self.bias, eps=self.eps)


if __name__ == "__main__":
    torch.nn.BatchNorm2d.forward = use_running_statistics
    main()
