"""What compare.py measured, as a Markdown page: the machine, a table with verdicts, what is missed, raw numbers."""

import os
import pathlib
import platform
import statistics

# Processor flags that decide which kernels run, ours or the peers'.
FLAGS = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
         "asimd", "asimddp", "i8mm", "bf16", "sve"]
KINDS = {"decode": "decode", "prefill": "prefill of 512"}
# Quartiles of the ratios further apart than this share of the median are said to be noisy.
NOISY = 0.15
# Others' share of the processors above which a turn is said to be disturbed.
DISTURBED = 0.1
# What our bench's own roof holds while it measures.
ROOF_BYTES = 256 << 20


def cpuinfo():
    """The first processor's fields of /proc/cpuinfo; nothing where there is none."""
    path = pathlib.Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def flags():
    info = cpuinfo()
    found = set((info.get("flags") or info.get("Features") or "").split())
    return [flag for flag in FLAGS if flag in found]


def processor_kind():
    """The kind of processor by the instruction sets that decide: a file's name, such as `x86-avx512-vnni`."""
    found = flags()
    if platform.machine() in ("aarch64", "arm64"):
        return "arm-neon-dotprod" if "asimddp" in found else "arm-neon"
    if "avx512f" in found:
        return "x86-avx512-vnni" if "avx512_vnni" in found else "x86-avx512"
    if "avx2" in found:
        return "x86-avx2-vnni" if "avx_vnni" in found else "x86-avx2"
    return platform.machine() or "unknown"


def machine():
    info = cpuinfo()
    name = info.get("model name") or platform.processor() or platform.machine()
    text = f"{name}, {os.cpu_count()} virtual cores"
    if info.get("cpu family"):
        text += f", family {info['cpu family']}, model {info['model']}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{text}, {memory / 1e9:.0f} GB of memory; flags of interest: {', '.join(flags()) or 'none'}"


def quartiles(values):
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return values * 3
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, statistics.median(values), third]


def spread(values, digits):
    """Median and quartiles, as text."""
    first, median, third = (f"{value:.{digits}f}" for value in quartiles(values))
    return median if len(values) == 1 else f"{median} ({first}-{third})"


def is_disturbed(numbers):
    return (numbers.get("others") or 0.0) > DISTURBED


class Turns:
    """The rounds in which ours and one peer both ran undisturbed, in pairs; all of them where no round was."""

    def __init__(self, rows, comparison, peer):
        mine = {key(row): row["numbers"] for row in rows if is_of(row, comparison, "lightglm")}
        other = {key(row): row["numbers"] for row in rows if is_of(row, comparison, peer)}
        pairs = [(mine[at], other[at]) for at in mine if at in other]
        self.pairs = [pair for pair in pairs if not any(map(is_disturbed, pair))] or pairs

    def values(self, kind):
        """Ours, theirs and the ratio of each round; empty lists where one of them does not measure it."""
        pairs = [(a[kind], b[kind]) for a, b in self.pairs if a.get(kind) and b.get(kind)]
        return [a for a, _ in pairs], [b for _, b in pairs], [a / b for a, b in pairs]


def key(row):
    return row["started"], row["round"]


def is_of(row, comparison, program):
    return row["comparison"] == comparison and row["program"] == program


def verdict(ratios):
    """`ahead` or `behind` where at least three quarters of the rounds say so."""
    first, median, third = quartiles(ratios)
    word = "ahead" if first > 1 else "behind" if third < 1 else "level"
    return word + (", noisy" if third - first > NOISY * median else "")


def table(rows, titles):
    """The table's lines, and the lines of what is missed."""
    lines = ["| what | lightglm | peer | | ratio | verdict |", "|---|---|---|---|---|---|"]
    missed = []
    for name, title in titles.items():
        for peer in ("llama.cpp", "transformers"):
            turns = Turns(rows, name, peer)
            for kind, kind_title in KINDS.items():
                ours, theirs, ratios = turns.values(kind)
                if not ratios:
                    continue
                said = verdict(ratios)
                ratio = spread(ratios, 2)
                lines.append(f"| {title}: {kind_title} | {spread(ours, 1)} tokens/s | {peer} | "
                             f"{spread(theirs, 1)} tokens/s | **{ratio}** | {said} |")
                if said.startswith("behind"):
                    missed.append(f"- {title}, {kind_title}: {ratio} of {peer}")
            ours, theirs, _ = turns.values("peak_bytes")
            if ours:
                mine, other = statistics.median(ours) - ROOF_BYTES, statistics.median(theirs)
                lines.append(f"| {title}: peak memory | {mine / 1e9:.2f} GB | {peer} | {other / 1e9:.2f} GB | "
                             f"{mine / other:.2f} | |")
                if mine > 1.05 * other:
                    missed.append(f"- {title}, peak memory: {mine / other:.2f} times {peer}'s")
    return lines, missed


def fractions(rows, titles):
    """How much of the machine's roofs ours gets, measured within the same runs."""
    lines = ["| what | read GB/s | f32 GFLOP/s | int8 GOP/s | decode, of the bandwidth | prefill, of f32 | of int8 |",
             "|---|---|---|---|---|---|---|"]
    fields = ["read_bandwidth_gbs", "f32_gflops", "int8_gops"]
    shares = ["decode_fraction_of_bandwidth", "prefill_fraction_of_compute", "prefill_fraction_of_int8"]
    for name, title in titles.items():
        mine = [row["numbers"] for row in rows if is_of(row, name, "lightglm")]
        mine = [numbers for numbers in mine if not is_disturbed(numbers)] or mine
        if not mine:
            continue
        columns = []
        for field, digits in zip(fields, (1, 0, 0)):
            columns.append(spread([row[field] for row in mine], digits))
        for field in shares:
            found = [100 * row[field] for row in mine if row.get(field)]
            columns.append(f"{spread(found, 0)} %" if found else "-")
        lines.append(f"| {title} | {' | '.join(columns)} |")
    return lines


def raw(rows, titles, places):
    """Every turn's numbers, below the commands that gave them."""
    lines = []
    for name in titles:
        mine = [row for row in rows if row["comparison"] == name]
        for program in dict.fromkeys(row["program"] for row in mine):
            turns = [row for row in mine if row["program"] == program]
            command = " ".join(turns[-1]["command"])
            for path, short in places.items():
                command = command.replace(path, short)
            lines.append(f"{name}: {command}")
            for row in turns:
                numbers = row["numbers"]
                parts = [f"{kind} {numbers[kind]:.2f}" for kind in KINDS if numbers.get(kind)]
                parts.append(f"peak {numbers['peak_bytes'] / 1e9:.3f} GB")
                if "read_bandwidth_gbs" in numbers:
                    parts.append(f"roofs {numbers['read_bandwidth_gbs']:.2f} GB/s {numbers['f32_gflops']:.0f} GFLOP/s "
                                 f"{numbers['int8_gops']:.0f} GOP/s")
                if numbers.get("others") is not None:
                    parts.append(f"others {100 * numbers['others']:.0f} %")
                lines.append(f"  {row['at']} round {row['round'] + 1}: {', '.join(parts)}")
    return lines


def report(rows, titles, setting, versions, places):
    """The page. `places`: long paths and what stands for them."""
    titles = {name: title for name, title in titles.items() if any(row["comparison"] == name for row in rows)}
    days = sorted({row["at"][:10] for row in rows})
    commits = {row["numbers"]["commit"] for row in rows if row["numbers"].get("commit")}
    named = [f"{name} {version}" for name, version in versions.items()]
    named += [f"llama.cpp's commit {commit}" for commit in sorted(commits)]
    main_table, missed = table(rows, titles)
    quick = " --quick" if setting["quick"] else ""
    lines = [
        f"# lightglm beside its peers: {setting['processor']}",
        "",
        f"Written by `tools/compare.py --work DIR{quick} --threads {setting['threads']}`; what is compared and how "
        "stands in its head.",
        f"Median (quartiles) over rounds in which the programs ran in turns; the ratio is ours over theirs of the "
        "same round, above 1 is faster (memory: more).",
        f"Rounds in which other processes took more than {100 * DISTURBED:.0f} % of the processors stand among the raw "
        "numbers and not in the tables, unless there are no others.",
        "`ahead` and `behind` where at least three quarters of the rounds agree, `noisy` where the quartiles of the "
        f"ratio are more than {100 * NOISY:.0f} % of it apart.",
        "Peak memory is of the whole process (`ru_maxrss`), mapped files included, ours less the 0.27 GB that the "
        "bench's own roof streams (the raw numbers have them).",
        "",
        f"- measured: {' and '.join([days[0], days[-1]] if len(days) > 1 else days)}, commit {setting['commit']}",
        f"- machine: {machine()}",
        f"- threads: {setting['threads']} of each program",
        f"- versions: {'; '.join(named)}",
        "",
        *main_table,
        "",
        "## Missed",
        "",
        *(missed or ["Nothing."]),
        "",
        "## Of the machine's own roofs",
        "",
        *fractions(rows, titles),
        "",
        "## Raw numbers",
        "",
        "Tokens/s; `DIR` is the work folder.",
        "",
        "```",
        *raw(rows, titles, places),
        "```",
        "",
    ]
    return "\n".join(lines)
