"""AWS Backup, beside Aurora's own continuous backups: a daily snapshot in a vault that an accident with the
cluster does not reach."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn_provider_aws.backup_plan import BackupPlan, BackupPlanRule, BackupPlanRuleLifecycle
from cdktn_provider_aws.backup_selection import BackupSelection, BackupSelectionSelectionTag
from cdktn_provider_aws.backup_vault import BackupVault
from cdktn_provider_aws.iam_role import IamRole
from constructs import Construct

from daybreak.config.names import BACKUP_TAG
from daybreak.infra.aurora import Aurora
from daybreak.infra.encryption import Keys
from daybreak.infra.policies import Condition, Statement, service_role
from daybreak.infra.site import Site

# UTC, after Aurora's own backup and maintenance windows.
_DAILY = "cron(0 5 * * ? *)"
# Minutes: a job that could not begin within the first, or end within the second, counts as failed.
_START_MINUTES, _COMPLETE_MINUTES = 60, 360


@dataclass(frozen=True, slots=True)
class BackupProps:
    """What the backup needs. Snapshots are kept for ``days``."""

    site: Site
    keys: Keys
    aurora: Aurora
    days: int


class Backup(Construct):
    """``vault``, ``plan``, ``selection`` and ``role``. What bears the tag ``daybreak-backup`` with the plan's
    name is backed up: the cluster does, and a cluster that `daybreak rewind` makes does not."""

    def __init__(self, scope: Construct, id_: str, props: BackupProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        name = props.site.names.of("backup")
        self.vault = BackupVault(
            self,
            "vault",
            name=props.site.names.of("backup", limit=50),
            kms_key_arn=props.keys.data.arn,
            # A vault that holds snapshots is not deleted, unless the environment is for trying things.
            force_destroy=not props.site.protected,
        )
        self.plan = BackupPlan(
            self,
            "plan",
            name=name,
            rule=[
                BackupPlanRule(
                    rule_name="daily",
                    target_vault_name=self.vault.name,
                    schedule=_DAILY,
                    start_window=_START_MINUTES,
                    completion_window=_COMPLETE_MINUTES,
                    lifecycle=BackupPlanRuleLifecycle(delete_after=props.days),
                )
            ],
        )
        self.role = self._role()
        self.selection = BackupSelection(
            self,
            "selection",
            name=props.site.names.of("backup", limit=50),
            plan_id=self.plan.id,
            iam_role_arn=self.role.arn,
            selection_tag=[BackupSelectionSelectionTag(type="STRINGEQUALS", key=BACKUP_TAG, value=name)],
        )

    def _role(self) -> IamRole:
        """The part of AWSBackupServiceRolePolicyForBackup that an Aurora cluster needs, bound to this one.

        Snapshots that AWS Backup makes are named ``awsbackup:...``, and are encrypted with the cluster's key
        (AWS Backup developer guide, "Encryption for backups")."""
        site, props = self._props.site, self._props
        cluster, snapshots = props.aurora.cluster.arn, site.arn("rds", "cluster-snapshot:awsbackup:*")
        key = props.keys.data.arn
        return service_role(
            self,
            "role",
            site,
            "backup",
            "backup.amazonaws.com",
            (
                Statement(
                    "MakeSnapshots",
                    (
                        "rds:CreateDBClusterSnapshot",
                        "rds:DescribeDBClusters",
                        "rds:DescribeDBClusterSnapshots",
                        "rds:ListTagsForResource",
                        "rds:AddTagsToResource",
                    ),
                    (cluster, snapshots),
                ),
                Statement("ExpireSnapshots", ("rds:DeleteDBClusterSnapshot",), (snapshots,)),
                Statement("UseVault", ("backup:DescribeBackupVault", "backup:CopyIntoBackupVault"), (self.vault.arn,)),
                # IAM knows no resources for it ("Actions, resources, and condition keys for Resource Groups Tagging").
                Statement("FindByTag", ("tag:GetResources",), ("*",)),
                Statement("ReadKey", ("kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKey"), (key,)),
                Statement(
                    "LendKey",
                    ("kms:CreateGrant",),
                    (key,),
                    conditions=(Condition("Bool", "kms:GrantIsForAWSResource", ("true",)),),
                ),
            ),
        )
