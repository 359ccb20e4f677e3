"""Snakemake's Kubernetes executor for jobs that share a volume.

The executor as it comes copies what a rule declares to an object store and back. A stage here writes its files itself,
where the next stage and a later run look for them; so jobs mount one volume at the place the checkout has, and nothing
is copied. Everything else is the plugin's own.
"""

import shlex
from dataclasses import dataclass, replace

from snakemake_executor_plugin_kubernetes import Executor as KubernetesExecutor
from snakemake_executor_plugin_kubernetes import ExecutorSettings as KubernetesSettings
from snakemake_executor_plugin_kubernetes import common_settings as kubernetes_settings

common_settings = replace(
    kubernetes_settings,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


@dataclass
class ExecutorSettings(KubernetesSettings):
    """As the plugin's; on the command line they begin with --kubernetes-volume."""


class Executor(KubernetesExecutor):
    def get_job_exec_prefix(self, job) -> str:
        """A job starts in the checkout on the volume, not in the container's own folder."""
        return f"cd {shlex.quote(str(self.workflow.workdir_init))}"
