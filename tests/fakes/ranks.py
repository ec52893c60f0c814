"""A side of several ranks: they meet through gloo, and rank 0 does the talking for all of them."""

import sys

import steps
import torch
import torch.distributed as dist


def main():
    """Sum one over all ranks, then let rank 0 do the job that many ranks were asked for."""
    dist.init_process_group("gloo")
    ranks = torch.ones(1)
    dist.all_reduce(ranks)
    if dist.get_rank() == 0:
        job = steps.wire.read_json(steps.wire.Job, steps.Path(sys.argv[1]))
        if int(ranks) != job.gpus:
            sys.exit(f"{int(ranks)} ranks for a job of {job.gpus}")
        steps.main()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
