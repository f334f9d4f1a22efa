"""What the machine is: device tree, DMI, and whether a hypervisor made it up."""

from __future__ import annotations

from dataclasses import dataclass

from scanflow_serve.runtime.host.cpu import CpuInfo
from scanflow_serve.runtime.host.tree import Tree, printable

# /proc/device-tree links to the other, which Docker masks inside containers.
_DEVICE_TREES = ("/proc/device-tree", "/sys/firmware/devicetree/base")
_DMI = "/sys/class/dmi/id"
# What firmware says that nobody filled in.
_BLANK = ("o.e.m.", "oem", "default string", "system product name", "system manufacturer", "none")
_HYPERVISORS = (
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "innotek",
    "xen",
    "bochs",
    "parallels",
    "amazon ec2",
    "google compute engine",
    "openstack",
    "virtual machine",  # Hyper-V and Azure
    "bhyve",
)


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine's identity.

    Attributes:
        model: Such as ``Raspberry Pi 5 Model B Rev 1.0`` or ``LENOVO 20XW0055GE``; "" if unknown.
        family: ``raspberry-pi`` | ``jetson`` | "".
        chassis: SMBIOS chassis type; 0 if unknown.
        virtual: A hypervisor runs it.
    """

    model: str
    family: str = ""
    chassis: int = 0
    virtual: bool = False


def read_hardware(tree: Tree, cpuinfo: CpuInfo) -> Hardware:
    """Return the identity as the device tree, the kernel or DMI tell it, in this order."""
    dmi = _dmi_model(tree)
    model = _board_model(tree, cpuinfo) or dmi
    return Hardware(
        model=model,
        family=_family(tree, model),
        chassis=_chassis(tree),
        virtual=_is_virtual(dmi, cpuinfo),
    )


def _board_model(tree: Tree, cpuinfo: CpuInfo) -> str:
    for folder in _DEVICE_TREES:
        model = tree.line(f"{folder}/model")
        if model:
            return model
    # Both stay visible in a container, where the device tree does not.
    if "Model" in cpuinfo:
        return printable(cpuinfo["Model"][0])
    return tree.line("/sys/devices/soc0/machine")


def _family(tree: Tree, model: str) -> str:
    compatible = " ".join(tree.line(f"{folder}/compatible") for folder in _DEVICE_TREES)
    if model.startswith("Raspberry Pi") or "raspberrypi," in compatible:
        return "raspberry-pi"
    # A carrier board of another vendor has its own model name, but the same SoC.
    tegra = "nvidia,tegra" in compatible or tree.line("/sys/devices/soc0/family") == "Tegra"
    if tegra or "Jetson" in model:
        return "jetson"
    return ""


def _dmi_model(tree: Tree) -> str:
    vendor, product = (
        "" if any(blank in text.lower() for blank in _BLANK) else text
        for text in (tree.line(f"{_DMI}/sys_vendor"), tree.line(f"{_DMI}/product_name"))
    )
    return product if product.startswith(vendor) else f"{vendor} {product}".strip()


def _chassis(tree: Tree) -> int:
    number = tree.number(f"{_DMI}/chassis_type", 0, 127)
    return int(number or 0)


def _is_virtual(dmi: str, cpuinfo: CpuInfo) -> bool:
    flags = cpuinfo.get("flags", ("",))[0].split()
    return "hypervisor" in flags or any(name in dmi.lower() for name in _HYPERVISORS)
