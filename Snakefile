# The order of the notebooks. One rule runs any stage of any cohort of any study; papermill does the running.
#   snakemake --cores 2 spacrd_demo                              one cohort
#   snakemake --cores 2 book                                     demo and null of every study
#   snakemake --cores 8 --config shards=8 -- spacrd_her2st       the long stages cut into 8 shards
#   snakemake --profile profiles/slurm -- crossfusion_luad       on a cluster
#   snakemake --cores 1 --dry-run -- spacrd_her2st               what would run, and why
import shlex
import sys
from pathlib import Path

from lib.data import raw_state, since
from lib.params import load, resources_of
from lib.stage import code_of

# a study's stages are its notebooks, in the order of their numbers
STAGES = {
    study.name: sorted(path.stem for path in study.glob("[1-5]-*.ipynb")) for study in Path("notebooks").iterdir()
}
SHARDED, SHARDS = ["2-embed", "3-train"], int(config.get("shards", 1))
COHORTS = sorted((path.parent.name, path.stem) for path in Path("params").glob("*/*.yaml"))
RUN = "results/{study}/{cohort}/notebooks/{run}.ipynb"
# folders below results/<study>/<cohort>/ that go when its last stage is done: --config temporary=raw,series
INTERMEDIATE = ["raw", "scans", "masks", "series", "sections", "tiles", "features", "weights"]
TEMPORARY = str(config.get("temporary", "")).replace(",", " ").split()
if wrong := set(TEMPORARY) - set(INTERMEDIATE):
    raise ValueError(f"temporary={','.join(sorted(wrong))}: expected one or more of {', '.join(INTERMEDIATE)}")

# `python` in a job is the interpreter that runs this, wherever it is; with `--sdm conda`, the job's own environment's
shell.prefix(f"set -euo pipefail; PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; export PYTHONUTF8=1; ")


def inputs(wildcards):
    """The stage before, this stage's shards, and what of lib the notebook imports: a line changed there, and only
    there, is a reason to run it again. Parameters are checked here, before anything runs."""
    load(f"params/{wildcards.study}/{wildcards.cohort}.yaml")
    stage, _, shard = wildcards.run.partition(".")
    stages = STAGES[wildcards.study]
    runs = stages[: stages.index(stage)][-1:]
    if SHARDS > 1 and stage in SHARDED and not shard:
        runs += [f"{stage}.{i}of{SHARDS}" for i in range(SHARDS)]
    published = Path("data/published").glob(f"{wildcards.study}*.csv") if stage[0] == "5" else []
    files = [RUN.format(study=wildcards.study, cohort=wildcards.cohort, run=run) for run in runs]
    return files + [*code_of(Path(f"notebooks/{wildcards.study}/{stage}.ipynb"), Path()), *sorted(published)]


def raw(wildcards):
    """What lies in data/raw for the cohort, a reason for its first stage, and so for all, to run again."""
    if wildcards.run != STAGES[wildcards.study][0]:
        return ""
    now = raw_state(load(f"params/{wildcards.study}/{wildcards.cohort}.yaml"))
    return since(f"results/{wildcards.study}/{wildcards.cohort}/logs/raw.json", now)


def share(wildcards):
    shard, _, shards = wildcards.run.partition(".")[2].partition("of")
    return f"-p shard {shard} -p shards {shards}" if shards else ""


def asked(wildcards):
    return resources_of(wildcards.study, wildcards.cohort, wildcards.run.partition(".")[0])


# jsonschema builds a grammar of web addresses whenever it starts: a second a notebook that no notebook needs
PAPERMILL = (
    "python -c 'import sys; sys.modules[\"rfc3987_syntax\"] = None; from papermill.__main__ import papermill; papermill()'"
)


wildcard_constraints:
    study="[a-z]+",
    cohort="[a-z0-9_-]+",
    run=r"[1-5]-[a-z]+(\.\d+of\d+)?",


rule book:
    localrule: True
    input: [RUN.format(study=s, cohort=c, run=STAGES[s][-1]) for s, c in COHORTS if c in ("demo", "null")]


for study, cohort in COHORTS:
    if TEMPORARY:

        rule:
            name: f"{study}_{cohort}"
            localrule: True
            input: RUN.format(study=study, cohort=cohort, run=STAGES[study][-1])
            params: folders=[f"results/{study}/{cohort}/{name}" for name in TEMPORARY]
            shell: "rm -rf {params.folders}"

    else:

        rule:
            name: f"{study}_{cohort}"
            localrule: True
            input: RUN.format(study=study, cohort=cohort, run=STAGES[study][-1])


rule stage:
    input:
        inputs,
        notebook=lambda w: f"notebooks/{w.study}/{w.run.partition('.')[0]}.ipynb",
        params="params/{study}/{cohort}.yaml",
    output: RUN
    params: share=share, raw=raw
    threads: lambda w: asked(w).threads
    resources:
        mem_mb=lambda w, attempt: asked(w).mem_mb * attempt, # a job that is tried again gets more
        runtime=lambda w: asked(w).minutes,
        gpu=lambda w: asked(w).gpus or None,
    log: "results/{study}/{cohort}/logs/{run}.log"
    conda: "environment.yml"
    shell:
        "OMP_NUM_THREADS={threads} NUMBA_NUM_THREADS={threads} {PAPERMILL} {input.notebook} {output}.running.ipynb -f {input.params}"
        " {params.share} --no-progress-bar --log-output --log-level WARNING 2>&1"
        # what a kernel says of its own sockets and shutdown is no news
        " | awk '!/^\\[IPKernelApp\\]/ {{print; fflush()}}' | tee {log}"
        # which raw files the first stage left, for the next time that `raw` is asked
        " && case {wildcards.run} in 1-*) python -m lib.data --ended {input.params}"
        " results/{wildcards.study}/{wildcards.cohort}/logs/raw.json '{params.raw}';;"
        " esac && mv {output}.running.ipynb {output}"
