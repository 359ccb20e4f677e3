# The order of the notebooks. One rule runs any stage of any cohort of any study; papermill does the running.
#   snakemake --cores 2 spacrd_demo                              one cohort
#   snakemake --cores 2 book                                     demo and null of every study
#   snakemake --cores 8 --config shards=8 -- spacrd_her2st       the long stages cut into 8 shards
#   snakemake --profile profiles/slurm -- crossfusion_luad       on a cluster; also profiles/kubernetes, profiles/local
#   snakemake --dry-run -- spacrd_her2st                         what would run, and why
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

from lib.study.params import load
from lib.study.raw_files import since, state
from lib.study.resources import resources_of

# a study's stages are its notebooks, in the order of their numbers
STAGES = {
    study.name: sorted(path.stem for path in study.glob("[1-5]-*.ipynb"))
    for study in sorted(Path("notebooks").iterdir())
    if study.is_dir()
}
SHARDED = ["2-embed", "3-train"]
SHARDS = int(config.get("shards", 1))
# what the first stage generated of a phantom may go when the last stage is done: `--config keep=false`
KEEP = str(config.get("keep", True)).lower() not in ("false", "no", "0")
COHORTS = sorted((path.parent.name, path.stem) for path in Path("params").glob("*/*.yaml"))
CODE = [path for path in sorted(Path("lib").rglob("*.py")) if "book" not in path.parts]
RUN = "results/{study}/{cohort}/notebooks/{run}.ipynb"
# the interpreter that runs this, wherever it is; with `--sdm conda`, the one of the environment made for the job.
# No parameter of the rule: another place of the same environment is no reason to run anything again.
CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
PYTHON = "python" if CONDA else shlex.quote(sys.executable)


wildcard_constraints:
    study="[a-z]+",
    cohort="[a-z0-9_-]+",
    run=r"[1-5]-[a-z]+(\.\d+of\d+)?",


def last(study, cohort):
    return RUN.format(study=study, cohort=cohort, run=STAGES[study][-1])


def stage_of(wildcards):
    return wildcards.run.partition(".")[0]


def before(wildcards):
    """The stage before, and this stage's shards. Parameters are checked here, before anything runs."""
    load(f"params/{wildcards.study}/{wildcards.cohort}.yaml")
    stage, _, shard = wildcards.run.partition(".")
    stages = STAGES[wildcards.study]
    runs = stages[: stages.index(stage)][-1:]
    if SHARDS > 1 and stage in SHARDED and not shard:
        runs += [f"{stage}.{i}of{SHARDS}" for i in range(SHARDS)]
    return [RUN.format(study=wildcards.study, cohort=wildcards.cohort, run=run) for run in runs]


def share(wildcards):
    shard, _, shards = wildcards.run.partition(".")[2].partition("of")
    return f"-p shard {shard} -p shards {shards}" if shards else ""


@cache
def raw_state(study, cohort):
    now = state(load(f"params/{study}/{cohort}.yaml"), Path.cwd())
    return since(f"results/{study}/{cohort}/logs/raw.json", now)


def raw(wildcards):
    """What lies in data/raw for the cohort, a reason for its first stage, and so for all, to run again."""
    first = wildcards.run == STAGES[wildcards.study][0]
    return raw_state(wildcards.study, wildcards.cohort) if first else ""


def asked(wildcards):
    stages = tuple(sorted({stage for stages in STAGES.values() for stage in stages}))
    return resources_of(wildcards.study, wildcards.cohort, stage_of(wildcards), stages, Path.cwd())


def afterwards(wildcards):
    """Commands after the notebook's: the first stage notes which raw files it leaves, the last may tidy up."""
    folder = f"results/{wildcards.study}/{wildcards.cohort}"
    stages = STAGES[wildcards.study]
    if wildcards.run == stages[0]:
        parameters = f"params/{wildcards.study}/{wildcards.cohort}.yaml"
        note = [parameters, f"{folder}/logs/raw.json", raw(wildcards)]
        return f"{PYTHON} -m lib.study.raw_files {shlex.join(note)}"
    return "true" if KEEP or wildcards.run != stages[-1] else f"rm -rf {folder}/raw"


rule book:
    localrule: True
    input:
        [last(*pair) for pair in COHORTS if pair[1] in ("demo", "null")],


for study, cohort in COHORTS:

    rule:
        name: f"{study}_{cohort}"
        localrule: True
        input:
            last(study, cohort),


rule stage:
    input:
        before,
        CODE,
        notebook=lambda w: f"notebooks/{w.study}/{stage_of(w)}.ipynb",
        params="params/{study}/{cohort}.yaml",
    output:
        RUN,
    params:
        share=share,
        raw=raw,
    threads: lambda w: asked(w).threads
    resources:
        mem_mb=lambda w, attempt: asked(w).mem_mb * attempt,
        runtime=lambda w: asked(w).minutes,
        gpu=lambda w: asked(w).gpus or None,
    log:
        "results/{study}/{cohort}/logs/{run}.log",
    conda:
        "environment.yml"
    shell:
        "OMP_NUM_THREADS={threads} NUMBA_NUM_THREADS={threads} {PYTHON} -m papermill {input.notebook} {output}.running.ipynb -f {input.params}"
        " {params.share} --no-progress-bar --log-output --log-level WARNING 2>&1"
        # what a kernel says of its own sockets and shutdown is no news
        " | awk '!/^\\[IPKernelApp\\]/ {{print; fflush()}}' | tee {log}"
        " && mv {output}.running.ipynb {output}"
