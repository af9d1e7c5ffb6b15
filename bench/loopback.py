"""Regimes on this machine: all ranks over its loopback."""

from measuring import GIB, KIB, MIB, Rounds, check, ratio, row, size_name, take_turns, time_name

OURS, TCP, MPI, GLOO = "PCCL", "bare_ring", "Open MPI", "Gloo"
LARGE_ITERATIONS = {64 * MIB: 5, 256 * MIB: 3}


def better_of_both(us):
    """The better of Open MPI and Gloo; None unless both were measured."""
    return min(us[MPI], us[GLOO]) if us.get(MPI) and us.get(GLOO) else None


def compared(context, ranks, size, rounds):
    us = rounds.medians()
    checks = []
    if size >= 64 * MIB:
        checks.append(check("of bare_ring's bandwidth", ratio(us[TCP], us[OURS]), at_least=0.90))
        checks.append(check("times the better of Open MPI and Gloo", ratio(better_of_both(us), us[OURS]), at_least=1.2))
    else:
        checks.append(check("of bare_ring's bandwidth", ratio(us[TCP], us[OURS])))
        checks.append(check("times the better of Open MPI and Gloo", ratio(better_of_both(us), us[OURS]),
                            at_least=0.95 if size >= MIB else None))
    checks.append(check("times Gloo", ratio(us.get(GLOO), us[OURS]), at_least=1.0))
    names = [contestant.name for contestant in context.contestants]
    return row([str(ranks), size_name(size), *(time_name(us.get(name)) for name in names)], checks, ranks=ranks, size=size, us=us,
               rounds=rounds.samples)


def head(context):
    return ["ranks", "size", *(contestant.name for contestant in context.contestants)]


def large_rounds(context):
    for ranks in context.chosen_ranks((2, 4), (2, 4, 8)):
        for size in context.chosen((64 * MIB,), (64 * MIB, 256 * MIB)):
            yield ranks, size, context.loopback(ranks, [size], LARGE_ITERATIONS[size])[size]


def large(context):
    return head(context), [compared(context, ranks, size, rounds) for ranks, size, rounds in large_rounds(context)]


def sizes(context):
    rows = []
    groups = context.chosen([([4 * KIB, 64 * KIB], 100), ([MIB, 4 * MIB, 16 * MIB], 8)],
                            [([4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB], 200), ([MIB, 4 * MIB, 16 * MIB], 15)])
    for ranks in context.chosen_ranks((2, 4), (2, 4, 8)):
        for group, iterations in groups:
            for size, rounds in context.loopback(ranks, group, iterations).items():
                rows.append(compared(context, ranks, size, rounds))
    return head(context), rows


def variants(context, ranks, what, choices, iterations):
    """Rounds of pccl-perf with other sizes or options: {name: (size, options)}."""
    perf = context.contestant(OURS)
    rounds = Rounds(take_turns({name: lambda size=size, options=options: perf.measure(ranks, [size], iterations, options)[size]
                                for name, (size, options) in choices.items()}, context.rounds, what))
    context.say(f"{ranks} ranks, {what}", rounds.medians())
    return rounds


def concurrent(context):
    choices = {"16 x 16 MiB at once": (16 * MIB, ("--concurrent", 16)), "1 x 256 MiB": (256 * MIB, ())}
    rows = []
    for ranks in context.chosen_ranks((4,), (4,)):
        rounds = variants(context, ranks, "concurrent", choices, 3)
        us = rounds.medians()
        rows.append(row([str(ranks), *(time_name(us[name]) for name in choices)],
                        [check("of the bandwidth of one", ratio(us["1 x 256 MiB"], us["16 x 16 MiB at once"]), at_least=0.95)],
                        ranks=ranks, rounds=rounds.samples))
    return ["ranks", *choices], rows


def latency(context):
    bars_ms = {2: 0.25, 4: 0.5, 8: 1.0}
    rows = []
    for ranks in context.chosen_ranks((2, 4, 8), (2, 4, 8)):
        rounds = context.loopback(ranks, [4 * KIB], 400, (TCP, OURS))[4 * KIB]
        us = rounds.medians()
        rows.append(row([str(ranks), time_name(us[TCP]), time_name(us[OURS])],
                        [check("ms", us[OURS] and us[OURS] / 1e3, at_most=bars_ms.get(ranks))], ranks=ranks, rounds=rounds.samples))
    return ["ranks", TCP, OURS], rows


def quantized(context):
    choices = {"float32": (256 * MIB, ()), "8 bits on the wire": (256 * MIB, ("-q", "minmax:u8"))}
    rows = []
    for ranks in context.chosen_ranks((2, 4), (2, 4)):
        rounds = variants(context, ranks, "quantized", choices, 3)
        us = rounds.medians()
        rows.append(row([str(ranks), *(time_name(us[name]) for name in choices)],
                        [check("times float32", ratio(us["float32"], us["8 bits on the wire"]), at_least=1.5)],
                        ranks=ranks, rounds=rounds.samples))
    return ["ranks", *choices], rows


def halves(context):
    size = 64 * MIB
    choices = {"all-reduce": (size, ()), **{name: (size, ("--collective", name)) for name in ("reduce-scatter", "all-gather", "both")}}
    rows = []
    for ranks in context.chosen_ranks((2, 4), (2, 4)):
        rounds = variants(context, ranks, "halves", choices, LARGE_ITERATIONS[size])
        us = rounds.medians()
        rows.append(row([str(ranks), size_name(size), *(time_name(us[name]) for name in choices)],
                        [check("both, times the all-reduce's time", ratio(us["both"], us["all-reduce"]), at_most=1.15)],
                        ranks=ranks, size=size, rounds=rounds.samples))
    return ["ranks", "size", *choices], rows


def memory(context):
    rows = []
    size = context.chosen(256 * MIB, GIB)
    for ranks in context.chosen_ranks((4,), (4,)):
        sample = context.contestant(OURS).measure(ranks, [size], 2, ("-c", 0), warm_up=1)[size]
        mib = sample["memory"] / MIB if "memory" in sample else None
        context.say(f"{ranks} ranks, memory, {size_name(size)}", {"time": sample["us"]})
        rows.append(row([str(ranks), size_name(size)], [check("MiB beyond the buffers", mib, at_most=64)], ranks=ranks, sample=sample))
    return ["ranks", "size"], rows


def cpu(context):
    """Uses the rounds of `large`."""
    rows = []
    for ranks, size, rounds in large_rounds(context):
        per_gb = {name: cpu_s and cpu_s / (size / 1e9) for name, cpu_s in rounds.medians("cpu_s").items() if name in (OURS, MPI, GLOO)}
        rows.append(row([str(ranks), size_name(size), *(f"{value:.2f} s" if value else "" for value in per_gb.values())],
                        [check("of Gloo's", ratio(per_gb[OURS], per_gb.get(GLOO)), at_most=1.0)], ranks=ranks, size=size, per_gb=per_gb))
    return ["ranks", "size", *(c.name for c in context.contestants if c.name in (OURS, MPI, GLOO))], rows
