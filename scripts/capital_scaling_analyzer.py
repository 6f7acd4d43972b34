"""The scaling engine from the command line: predecir, optimizar, analizar (predict, optimize, analyze) and the data
commands.

Exit codes: 0 done, 1 the database or a file failed, 2 wrong usage, 3 no data for the question, 4 no allocation is
possible.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scaling import Infeasible, InvalidQuery, InvalidRecord, NotEnoughData, ScalingError, ScalingInitializer
from scaling.store import without_password
from scaling.tables import Sheet, allocation_sheet, model_sheets, money, prediction_sheet
from scaling.texts import cli_text

if TYPE_CHECKING:
    from scaling import PredictiveScalingEngine
    from scaling.bootstrap import Bootstrap
    from scaling.rehearsal import WalkForward

OK, FAILED, USAGE, NO_DATA, INFEASIBLE = range(5)
_ALIASES = {
    "predict": "predecir", "optimize": "optimizar", "analyze": "analizar", "import": "importar", "record": "registrar",
    "symbols": "simbolos", "demo": "demo",
}  # fmt: skip
_COMMANDS = {spanish: english for english, spanish in _ALIASES.items()}


class Output:
    """Tables or JSON on stdout, progress and errors on stderr, in one language."""

    def __init__(self, as_json: bool, language: str) -> None:
        self.as_json, self.language = as_json, language

    def say(self, key: str, **figures: object) -> str:
        """A sentence of the CLI in the chosen language."""
        return cli_text(key, self.language, **figures)

    def show(self, sheet: Sheet) -> None:
        """Print a table and the lines under it."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        console = Console(highlight=False)
        table = Table(title=escape(sheet.title), title_justify="left")
        for k, name in enumerate(sheet.columns):
            words = k in sheet.words
            table.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=not words)
        for row in sheet.rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
        for line in sheet.after:
            console.print(escape(line), soft_wrap=True)

    def json(self, value: object) -> None:
        """Print a JSON document; what is not a finite number becomes null."""
        print(json.dumps(_finite(value), ensure_ascii=False, indent=2, allow_nan=False))

    def error(self, text: str) -> None:
        """One line on stderr."""
        print(text, file=sys.stderr)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


async def predecir(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> int:
    """Predict efficiency at each capital."""
    found = await engine.predict_many([args.symbol] * len(args.capital), args.capital)
    pictures = [str(await _picture(args, engine, out))] if args.plot and found[0].status != "insufficient" else []
    if out.as_json:
        out.json({"symbol": args.symbol, "predictions": [asdict(p) for p in found], "plots": pictures})
    if found[0].status == "insufficient":
        out.error(_no_data(args, out, found[0].records))
        return NO_DATA
    if out.as_json:
        return OK
    sheet = prediction_sheet(args.symbol, found, out.language)
    sheet.after += [out.say("saved", path=path) for path in pictures]
    out.show(sheet)
    return OK


def _no_data(args: argparse.Namespace, out: Output, records: int = 0) -> str:
    program = "scripts/capital_scaling_analyzer.py"
    return out.say("no_data", symbol=args.symbol, records=records, db=without_password(args.db), program=program)


async def optimizar(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> int:
    """Share a total between instruments."""
    allocation = await engine.optimize_allocation(
        args.symbols, args.total, args.min_efficiency, caps=_pairs("--cap", args.cap), min_ticket=args.min_ticket,
        previous=_pairs("--previous", args.previous), turnover_cost=args.turnover_cost, hurdle=args.hurdle,
        trust=args.trust, kappa=args.kappa,
    )  # fmt: skip
    empty = all(reason.code == "no_data" for reason in allocation.reasons.values())
    if out.as_json:
        out.json({**allocation.as_dict(), "reasons": allocation.explain(out.language)})
    else:
        out.show(allocation_sheet(allocation, out.language))
    if empty:
        args.symbol = ", ".join(args.symbols)
        out.error(_no_data(args, out))
        return NO_DATA
    return OK


def _pairs(option: str, given: list[str] | None) -> dict[str, float] | None:
    if not given:
        return None
    found = {}
    for pair in given:
        name, sign, text = pair.rpartition("=")
        try:
            found[name] = float(text)
        except ValueError:
            sign = ""
        if not sign:
            raise InvalidQuery(f"{option}: SYMBOL=NUMBER, not {pair!r}")
    return found


async def analizar(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> int:
    """Quality, parameters and saturation of one model."""
    metrics = await engine.model_metrics(args.symbol)
    if metrics.status == "insufficient":
        out.error(_no_data(args, out, metrics.records))
        return NO_DATA
    points = await engine.saturation(args.symbol)
    boot = await _bootstrap(args, engine, out) if args.bootstrap else None
    walk = await _backtest(args, engine) if args.backtest else None
    picture = str(await _picture(args, engine, out)) if args.plot else None
    if out.as_json:
        document = {"metrics": asdict(metrics), "saturation": asdict(points), "plot": picture}
        if boot is not None:
            document["bootstrap"] = {
                "saturation": boot.saturation,
                "reached": boot.reached,
                "replicates": boot.replicates,
            }
        if walk is not None:
            document["backtest"] = {
                "mean_error": walk.mean_error, "median_error": walk.median_error, "coverage": walk.coverage,
                "predictions": len(walk.seen),
            }  # fmt: skip
        out.json(document)
        return OK
    sheets = model_sheets(metrics, points, out.language)
    sheets[-1].after = _after(out, boot, walk, picture)
    for sheet in sheets:
        out.show(sheet)
    return OK


def _after(out: Output, boot: Bootstrap | None, walk: WalkForward | None, picture: str | None) -> list[str]:
    lines = []
    if boot is not None:
        low, high = boot.saturation
        lines.append(
            out.say("bootstrap", low=money(low), high=money(high), reached=boot.reached, replicates=boot.replicates)
        )
    if walk is not None:
        lines.append(out.say("backtest", error=walk.median_error, coverage=walk.coverage, count=len(walk.seen)))
    if picture is not None:
        lines.append(out.say("saved", path=picture))
    return lines


async def _bootstrap(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> Bootstrap:
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from scaling.bootstrap import wild_bootstrap

    capital, efficiency = engine.records(args.symbol)
    grid = np.linspace(capital.min(), capital.max(), 65)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(out.say("bootstrapping"), total=args.bootstrap)
        return await asyncio.to_thread(
            wild_bootstrap, capital, efficiency, engine.learn_options, grid, engine.config.hurdle, engine.config.level,
            args.bootstrap, 0, lambda done: progress.update(task, completed=done),
        )  # fmt: skip


async def _backtest(args: argparse.Namespace, engine: PredictiveScalingEngine) -> WalkForward:
    from scaling.rehearsal import walk_forward

    capital, efficiency = engine.records(args.symbol)
    return await asyncio.to_thread(walk_forward, capital, efficiency, engine.learn_options, engine.config.level)


async def _picture(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> Path:
    from scaling.plots import Picture, save_model_plot

    capital, efficiency = engine.records(args.symbol)
    curves, points = await engine.curve(args.symbol), await engine.saturation(args.symbol)
    picture = Picture(args.symbol, curves, capital, efficiency, points, engine.config.level, out.language)
    return await asyncio.to_thread(save_model_plot, picture, args.plot)


async def importar(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> int:
    """Import efficiency records from a CSV file."""
    from rich.console import Console
    from rich.progress import Progress

    from scaling.importing import read_csv

    records = await asyncio.to_thread(read_csv, args.file)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(out.say("importing"), total=None)
        fresh = await engine.add_efficiency_records(records)
        progress.update(task, total=1, completed=1)
    return _imported(out, fresh, len(records), sorted({str(r["symbol"]) for r in records}))


async def demo(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> int:
    """Import invented records of three markets."""
    from scaling.synthetic import demo_records

    records = demo_records()
    rows = [{**asdict(r), "ts": r.ts_us / 1e6} for r in records]
    for row in rows:
        del row["ts_us"]
    return _imported(out, await engine.add_efficiency_records(rows), len(rows), sorted({r.symbol for r in records}))


def _imported(out: Output, fresh: int, total: int, symbols: list[str]) -> int:
    if out.as_json:
        out.json({"imported": fresh, "known_before": total - fresh, "symbols": symbols})
    else:
        print(out.say("imported", fresh=fresh, known=total - fresh, symbols=", ".join(symbols)))
    return OK


async def registrar(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> int:
    """Add one efficiency record."""
    fresh = await engine.add_efficiency_record(
        args.symbol, args.capital, args.efficiency, _pairs("--metric", args.metric)
    )
    return _imported(out, int(fresh), 1, [args.symbol])


async def simbolos(args: argparse.Namespace, engine: PredictiveScalingEngine, out: Output) -> int:
    """List the symbols with records."""
    assert engine.db is not None
    counts = await asyncio.to_thread(engine.db.symbols)
    if out.as_json:
        out.json(counts)
    elif counts:
        rows = [[symbol, str(count)] for symbol, count in counts.items()]
        out.show(Sheet(out.say("symbols_title"), [out.say("symbol"), out.say("records")], rows))
    if not counts:
        args.symbol = "*"
        out.error(_no_data(args, out))
    return OK if counts else NO_DATA


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="capital_scaling_analyzer.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--db", default=os.environ.get("SCALING_DB", "scaling.sqlite"), help="SQLite file or PostgreSQL URL"
    )
    common.add_argument("--json", action="store_true", help="JSON on stdout")
    common.add_argument(
        "--lang", choices=("es", "en"), help="es for Spanish commands, en for English ones, unless given"
    )
    learning = argparse.ArgumentParser(add_help=False)
    learning.add_argument("--model", help="auto, linear, polynomial, exponential, sqrt (auto)")

    def add(name: str, help_text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        english = _COMMANDS[name]
        alias = [english] if english != name else []
        return commands.add_parser(name, aliases=alias, help=help_text, parents=[common, *parents])

    p = add("predecir", "predict efficiency at one or more capitals", learning)
    p.add_argument("--symbol", required=True)
    p.add_argument("--capital", type=float, nargs="+", required=True)
    p.add_argument("--plot", metavar="FILE", help=".png or .svg")
    p = add("optimizar", "allocate a total", learning)
    p.add_argument("--symbols", nargs="+", required=True)
    p.add_argument("--total", type=float, required=True)
    p.add_argument("--min-efficiency", "--min-eficiencia", type=float)
    p.add_argument("--min-ticket", type=float, default=0.0)
    p.add_argument("--cap", action="append", metavar="SYMBOL=CAPITAL")
    p.add_argument("--previous", action="append", metavar="SYMBOL=CAPITAL", help="what is held now")
    p.add_argument("--turnover-cost", type=float, default=0.0, help="cost per unit moved")
    for option in ("--hurdle", "--trust", "--kappa"):
        p.add_argument(option, type=float)
    p = add("analizar", "quality and saturation of one model", learning)
    p.add_argument("--symbol", required=True)
    p.add_argument("--plot", metavar="FILE", help=".png or .svg")
    p.add_argument("--bootstrap", type=int, metavar="N", help="N replicates, for example 200")
    p.add_argument("--backtest", action="store_true", help="predict every record from the earlier ones")
    add("importar", "import a CSV: symbol,capital,efficiency[,ts][,source][,metrics...]").add_argument("file")
    p = add("registrar", "add one record")
    p.add_argument("--symbol", required=True)
    p.add_argument("--capital", type=float, required=True)
    p.add_argument("--efficiency", "--eficiencia", type=float, required=True)
    p.add_argument("--metric", action="append", metavar="NAME=NUMBER")
    add("demo", "import invented records of BTC/USDT, ETH/USDT and SOL/USDT")
    add("simbolos", "list the symbols with records")
    return parser


_RUN: dict[str, Callable[[argparse.Namespace, PredictiveScalingEngine, Output], Awaitable[int]]] = {
    "predecir": predecir, "optimizar": optimizar, "analizar": analizar, "importar": importar, "registrar": registrar,
    "demo": demo, "simbolos": simbolos,
}  # fmt: skip


async def run(args: argparse.Namespace, command: str, out: Output) -> int:
    """Open the engine on the database, run the command, close."""
    settings = {"model": args.model} if getattr(args, "model", None) else {}
    only = [args.symbol] if command in ("predecir", "analizar", "registrar") else getattr(args, "symbols", [])
    async with await ScalingInitializer(args.db, settings, symbols=only).initialize() as engine:
        return await _RUN[command](args, engine, out)


def _nothing_there(args: argparse.Namespace, command: str) -> bool:
    """A question about a database file that does not exist: it is answered without creating one."""
    return command not in ("importar", "registrar", "demo") and "://" not in args.db and not Path(args.db).exists()


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = _parser().parse_args(arguments)
    language = args.lang or ("en" if args.command in _ALIASES and args.command != "demo" else "es")
    out = Output(args.json, language)
    command = _ALIASES.get(args.command, args.command)
    if _nothing_there(args, command):
        args.symbol = ", ".join(getattr(args, "symbols", [])) or getattr(args, "symbol", "*")
        out.error(_no_data(args, out))
        return NO_DATA
    try:
        return asyncio.run(run(args, command, out))
    except (ScalingError, OSError) as problem:
        out.error(f"{out.say('error')}: {problem}")
        if isinstance(problem, (InvalidQuery, InvalidRecord)):
            return USAGE
        if isinstance(problem, NotEnoughData):
            return NO_DATA
        return INFEASIBLE if isinstance(problem, Infeasible) else FAILED


if __name__ == "__main__":
    raise SystemExit(main())
