# The order of the notebooks. One rule runs any stage of any cohort of any study; papermill does the running.
#   snakemake --cores 2 spacrd_demo                              one cohort
#   snakemake --cores 2 book                                     demo and null of every study
#   snakemake --cores 8 --config shards=8 -- spacrd_her2st       the long stages cut into 8 shards
from pathlib import Path

from lib.study.params import load

# a study's stages are its notebooks, in the order of their numbers
STAGES = {
    study.name: sorted(path.stem for path in study.glob("[1-5]-*.ipynb"))
    for study in sorted(Path("notebooks").iterdir())
    if study.is_dir()
}
SHARDED = ["2-embed", "3-train"]
SHARDS = int(config.get("shards", 1))
COHORTS = sorted((path.parent.name, path.stem) for path in Path("params").glob("*/*.yaml"))
CODE = [path for path in sorted(Path("lib").rglob("*.py")) if "book" not in path.parts]
RUN = "results/{study}/{cohort}/notebooks/{run}.ipynb"


wildcard_constraints:
    study="[a-z]+",
    cohort="[a-z0-9_-]+",
    run=r"[1-5]-[a-z]+(\.\d+of\d+)?",


def last(study, cohort):
    return RUN.format(study=study, cohort=cohort, run=STAGES[study][-1])


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
        notebook=lambda w: f"notebooks/{w.study}/{w.run.partition('.')[0]}.ipynb",
        params="params/{study}/{cohort}.yaml",
    output:
        RUN,
    params:
        share=share,
    threads: 1
    resources:
        mem_mb=6000,
    log:
        "results/{study}/{cohort}/logs/{run}.log",
    conda:
        "environment.yml"
    shell:
        "OMP_NUM_THREADS={threads} NUMBA_NUM_THREADS={threads} python -m papermill {input.notebook} {output}.running.ipynb -f {input.params}"
        " {params.share} --no-progress-bar --log-output --log-level WARNING 2>&1"
        # what a kernel says of its own sockets and shutdown is no news
        " | awk '!/^\\[IPKernelApp\\]/ {{print; fflush()}}' | tee {log}"
        " && mv {output}.running.ipynb {output}"
