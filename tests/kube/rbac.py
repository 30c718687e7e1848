"""Role-based access control, enforced: what the rules allow, and which of them were used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.kube.status import Refusal
from tests.kube.target import Target

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """As in a Role: `*` fits everything. `namespace` is None for a rule that holds in all of them.

    `source` names the Role, for messages.
    """

    api_groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    resource_names: tuple[str, ...] = ()
    namespace: str | None = None
    source: str = ""

    def allows(self, verb: str, target: Target, name: str) -> bool:
        """`name` is that of the path, or what a list or watch is narrowed to by `metadata.name=`, else empty.

        A POST has no name, so that no rule with names allows it.
        """
        resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
        return (
            (self.namespace is None or self.namespace == target.namespace)
            and _has(self.api_groups, target.group)
            and _has(self.resources, resource)
            and _has(self.verbs, verb)
            and (not self.resource_names or name in self.resource_names)
        )


class Access:
    """Enforces `rules` for the one `user`, and remembers which (rule, resource, verb) were needed."""

    def __init__(self, rules: Sequence[Rule], *, user: str = "system:serviceaccount:default:weighbridge") -> None:
        self.rules = tuple(rules)
        self.user = user
        self.used: set[tuple[Rule, str, str]] = set()

    def check(self, verb: str, target: Target, name: str) -> None:
        """Raises the server's 403. The first rule that allows it counts as used, the most specific ones first."""
        resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
        for rule in sorted(self.rules, key=lambda rule: (not rule.resource_names, rule.namespace is None)):
            if rule.allows(verb, target, name):
                self.used.add((rule, resource, verb))
                return
        where = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
        named = f'{target.qualified} "{target.name}"' if target.name else target.qualified
        raise Refusal(
            403,
            "Forbidden",
            f'{named} is forbidden: User "{self.user}" cannot {verb} resource "{resource}" in API group '
            f'"{target.group}"{where}',
            name=target.name,
            group=target.group,
            kind=target.resource,
        )

    def unused(self) -> list[tuple[Rule, str, str]]:
        """Every (rule, resource, verb) that is granted and that no request has needed."""
        granted = [(rule, resource, verb) for rule in self.rules for resource in rule.resources for verb in rule.verbs]
        return [grant for grant in granted if grant not in self.used]


def rules_from_manifests(manifests: Iterable[Json], *, account: str, namespace: str) -> list[Rule]:
    """What a service account may do by these Roles, ClusterRoles and bindings; other objects are passed over.

    Objects without a namespace are in `namespace`, as after `helm install`.
    """
    objects = list(manifests)
    roles = {
        (item["kind"], _namespace(item, namespace) if item["kind"] == "Role" else "", item["metadata"]["name"]): item
        for item in objects
        if item.get("kind") in ("Role", "ClusterRole")
    }
    rules: list[Rule] = []
    for binding in objects:
        if binding.get("kind") not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        if not any(_is_account(subject, account, namespace) for subject in binding.get("subjects") or ()):
            continue
        within = _namespace(binding, namespace) if binding["kind"] == "RoleBinding" else None
        reference = binding["roleRef"]
        role = roles[(reference["kind"], within or "" if reference["kind"] == "Role" else "", reference["name"])]
        rules += [_rule(rule, within, role) for rule in role.get("rules") or ()]
    return rules


def _rule(rule: Json, namespace: str | None, role: Json) -> Rule:
    return Rule(
        api_groups=tuple(rule.get("apiGroups", ())),
        resources=tuple(rule.get("resources", ())),
        verbs=tuple(rule.get("verbs", ())),
        resource_names=tuple(rule.get("resourceNames", ())),
        namespace=namespace,
        source=f"{role['kind']}/{role['metadata']['name']}",
    )


def _is_account(subject: Json, account: str, namespace: str) -> bool:
    return (
        subject.get("kind") == "ServiceAccount"
        and subject.get("name") == account
        and subject.get("namespace", namespace) == namespace
    )


def _namespace(item: Json, default: str) -> str:
    return str(item["metadata"].get("namespace", default))


def _has(values: Sequence[str], value: str) -> bool:
    return "*" in values or value in values
