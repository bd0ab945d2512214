"""How fast we are, next to what people use today: `python -m benchmarks kernel|fleet|core|iscsi`.

workload   one fio job: 4k-randread-qd1 is 4 KiB random reads, one at a time
arm        who serves the disk: the kernel's own fileio, the C daemon, or ours
turn       an arm set up, all workloads on it, and torn down again
round      one turn of every arm; rounds interleave the arms, so that a noisy host is noisy for all
"""
