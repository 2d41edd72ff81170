"""The tables of docs/performance.md, each from one result of the benchmarks (its JSON document)."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.svg_bars import number

Document = Mapping[str, Any]


def run(document: Document) -> str:
    machine, versions = document.get("machine", {}), document.get("versions", {})
    loads = " / ".join(f"{document[f'load_average_at_{when}'][0]:.1f}" for when in ("start", "end"))
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "commit")
    hardware = f"{machine.get('cpus')} CPUs ({machine.get('cpu')}), {machine.get('memory_gib')} GiB"
    return "\n".join(
        [
            f"- Raw figures: `benchmarks/results/{document['file']}`, begun {document['began_at']}, "
            f"{document['seconds'] / 60:.0f} minutes, {document['repeats']} repeats"
            + (", **small and quick: not for quoting**." if document["quick"] else "."),
            f"- Commit {versions.get('commit', 'unknown')}.",
            f"- Machine: {hardware}, Linux {machine.get('kernel')}; everything runs on it, clients too.",
            f"- Load average before / after: {loads}.",
            f"- Versions: {named}.",
            *(f"- **{name} failed**: {reason}" for name, reason in document["failed"].items()),
        ]
    )


def marks(document: Document) -> str:
    rows = [
        [
            mark["part"],
            mark["title"],
            f"{'≥' if mark['at_least'] else '≤'} {number(mark['limit'])}{mark['unit']}",
            f"{mark['value']:.4g}{mark['unit']}",
            "yes" if mark["reached"] else "**missed**",
        ]
        for mark in document["marks"]
    ]
    rows += [[name, "all of them", "", "", "**failed**"] for name in document["failed"]]
    reached = sum(mark["reached"] for mark in document["marks"])
    table = markdown(["part", "mark", "wanted", "measured", "reached"], rows)
    return f"{reached} of {len(document['marks'])} marks were reached.\n\n{table}"


def requests(document: Document) -> str:
    lobby = document["lobby"]
    found = {**lobby["medians"], "refusals, 10,000 campaigns known": lobby["medians_with_10000_campaigns"]["refusals"]}
    bare = found["bare DRF"]["per_sec"]
    rows = [
        [
            name,
            number(each["per_sec"]),
            f"{number(each['per_sec'] / bare)}x",
            number(each["p50_ms"]),
            number(each["p99_ms"]),
            number(each["web_cpu_us"]),
            f"{each['client_share']:.0%}",
        ]
        for name, each in found.items()
    ]
    head = ["target", "answers/s", "to bare DRF", "p50 ms", "p99 ms", "web CPU µs", "client, of one core"]
    return f"wrk, {lobby['connections']} connections, closed loop.\n\n{markdown(head, rows)}"


def time_goes(document: Document) -> str:
    """CPU time of one request, by who takes it, and what the dearest of them allows at most."""
    rows = []
    for name, each in cpu_rows(document).items():
        web, redis = each["web"], each["Redis"]
        per_core = f"{number(1e6 / redis)}/s" if redis > 1 else "-"
        shares = [number(each[part]) for part in ("web", "Redis", "client", "rest")]
        rows.append([name, *shares, f"{number(1e6 / web)}/s", per_core])
    head = ["request", "web µs", "Redis µs", "client µs", "rest µs", "one core of web gives", "Redis's one core gives"]
    return markdown(head, rows)


def cpu_rows(document: Document) -> dict[str, dict[str, float]]:
    shown = ("granian ok", "bare DRF", "blog", "refusals", "refusals, tokens", "winners")
    names = {"web": "web_cpu_us", "Redis": "redis_cpu_us", "client": "client_cpu_us", "rest": "rest_cpu_us"}
    medians = document["lobby"]["medians"]
    return {shows: {part: medians[shows][figure] for part, figure in names.items()} for shows in shown}


def waits(document: Document) -> str:
    one, twice = document["open"]["medians"], document["overload"]["repeats"]

    def middle(*names: str) -> float:
        values: list[Any] = list(twice)
        for name in names:
            values = [value[name] for value in values]
        return float(median(values))

    rows = [
        ["bare DRF, one connection", "", number(one["bare_ms"]), "", "", ""],
        [
            "winners at 70 % of the closed loop's rate",
            number(one["offered_per_sec"]),
            number(one["p50_ms"]),
            number(one["p99_ms"]),
            number(one["max_ms"]),
            number(one["sent_late_p99_ms"]),
        ],
    ]
    for title, name in (("twice the load, told 202", "admitted_ms"), ("twice the load, told 503", "refused_ms")):
        if not all(each[name] for each in twice):
            continue
        spread = [number(middle(name, figure)) for figure in ("p50", "p99", "max")]
        rows.append([title, number(middle("offered_per_sec")), *spread, number(middle("sent_late_ms", "p99"))])
    head = ["users", "offered/s", "p50 ms", "p99 ms", "longest ms", "sent late, p99 ms"]
    kept = f"{number(middle('goodput_of_best'))} of the best closed loop's winners are still admitted, "
    return f"{markdown(head, rows)}\n\nAt twice the load {kept}{middle('share_503'):.0%} of the users are told 503."


def wait_rows(document: Document) -> dict[str, dict[str, float]]:
    one, twice = document["open"]["medians"], document["overload"]["repeats"]
    found = {"winners at 70 % of the rate": {"p50": one["p50_ms"], "p99": one["p99_ms"]}}
    for title, name in (("twice the load, 202", "admitted_ms"), ("twice the load, 503", "refused_ms")):
        if all(each[name] for each in twice):
            found[title] = {figure: median(each[name][figure] for each in twice) for figure in ("p50", "p99")}
    return found


def rows(document: Document) -> str:
    storm = document["storm"]["medians"]
    table = markdown(["writer", "rows/s"], [[name, number(value)] for name, value in row_rows(document).items()])
    return (
        f"{table}\n\nBeside the consumer the storm of refusals does {number(storm['storm_beside_per_sec'])} a second, "
        f"alone {number(storm['storm_alone_per_sec'])}."
    )


def row_rows(document: Document) -> dict[str, float]:
    consumer, retry = document["consumer"]["medians_rows_per_sec"], document["retry"]["medians_rows_per_sec"]
    finished = {name: f"retry {name} finished rows" for name in ("beside 1 k", "beside 1 M")}
    return {
        "COPY of the same rows": consumer["COPY"],
        "consumer": consumer["consumer"],
        "consumer while refusals storm": document["storm"]["medians"]["rows_per_sec"],
        "one save() a message": consumer["save() a message"],
        **{title: retry[name] for name, title in finished.items()},
    }


def click(document: Document) -> str:
    found = document["click"]
    cells = [[name, number(each["p50_ms"]), number(each["p99_ms"])] for name, each in found["medians"].items()]
    who = f"{found['users']:,} users on {found['threads']} threads, {found['quantity']} coupons."
    return f"{who}\n\n{markdown(['design', 'p50 ms', 'p99 ms'], cells)}"


def memory(document: Document) -> str:
    redis = document["redis"]
    cells = [
        [
            f"Redis, a winner, {kind}",
            f"{number(redis[kind]['issued'])} bytes issued, {number(redis[kind]['pending'])} pending",
        ]
        for kind in ("8-digit ids", "UUIDs")
    ]
    cells += [
        ["Redis, a refused user", f"{round(redis['refused'])} bytes"],
        ["web, two workers, after everything", f"{number(document['lobby']['web_pss_mib'])} MiB PSS"],
        ["consumer's process after the storm", f"{number(document['storm']['medians']['consumer_pss_mib'])} MiB PSS"],
    ]
    return markdown(["what", "takes"], cells)


def ledger(document: Document) -> str:
    verifier, mend = document["ledger"]["verifier"], document["ledger"]["mend"]
    once = median(verifier["repeats_reading_once_seconds"])
    took = f"{number(verifier['seconds'])} s and {number(verifier['peak_mib'])} MiB"
    cells = [
        [f"`reconcile_campaigns`, {verifier['tickets']:,} tickets", f"{took}; both sides read once {number(once)} s"]
    ]
    for what in ("issued", "unread"):
        took = f"{number(mend[f'{what}_seconds'])} s, {number(mend['of_which_waiting_sec'])} s of it a fixed wait"
        cells.append([f"mend of {mend['tickets']:,} {what} tickets after a loss of Redis", took])
    return markdown(["what", "takes"], cells)


def growth(document: Document) -> str:
    found, coupons = document["growth"], document["growth"]["coupons"]
    cells = [
        [kind, f"{coupons[size]:,}", number(each["per_sec"]), number(each["p50_ms"]), number(each["web_cpu_us"])]
        for kind, both in found["medians"].items()
        for size, each in both.items()
    ]
    return markdown(["request", "coupons there are", "answers/s", "p50 ms", "web CPU µs"], cells)


def callers(document: Document) -> str:
    cells = [
        [name, f"{number(each['ratio'])}x", number(each["asked_cpu_ms"]), number(each["unasked_cpu_ms"])]
        for name, each in document["callers"]["cases"].items()
    ]
    return markdown(["request, caller", "rate to that without asking", "web CPU ms", "without asking"], cells)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


TABLES: dict[str, Callable[[Document], str]] = {
    "run": run,
    "marks": marks,
    "requests": requests,
    "time": time_goes,
    "waits": waits,
    "rows": rows,
    "click": click,
    "memory": memory,
    "ledger": ledger,
    "growth": growth,
    "callers": callers,
}
