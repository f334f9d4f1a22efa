"""Machines as folders: what the files of real ones print, and their environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GIB_KB = 1024 * 1024


@dataclass(frozen=True)
class Machine:
    files: Mapping[str, str | bytes]
    environ: Mapping[str, str] = field(default_factory=dict)

    def at(self, folder: Path) -> Path:
        """Write the files below *folder* and return it."""
        for path, content in self.files.items():
            place = folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    def but(self, files: Mapping[str, str | bytes] = {}, **environ: str) -> Machine:
        """Return the machine with some files and variables replaced or added."""
        return Machine({**self.files, **files}, {**self.environ, **environ})


def elf(machine: int, bits: int) -> bytes:
    """Return the head of a program for an ELF e_machine."""
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    return ident + (3).to_bytes(2, "little") + machine.to_bytes(2, "little") + bytes(44)


def glibc(version: str) -> bytes:
    banner = f"GNU C Library (Debian GLIBC {version}-1) stable release version {version}.\n"
    return elf(183, 64) + bytes(4096) + banner.encode() + bytes(64)


def cpuinfo(cpus: int, each: str, tail: str = "") -> str:
    return "".join(f"processor\t: {cpu}\n{each}\n" for cpu in range(cpus)) + tail


def meminfo(total_kb: int) -> str:
    return f"MemTotal:       {total_kb} kB\nMemFree:          123456 kB\n"


def os_release(name: str) -> str:
    return f'PRETTY_NAME="{name}"\nID=debian\n'


def arm(part: str, features: str, *, name: str = "", architecture: int = 8) -> str:
    model = f"model name\t: {name}\n" if name else ""
    return (
        f"{model}BogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: {architecture}\nCPU variant\t: 0x0\nCPU part\t: {part}\n"
        "CPU revision\t: 3\n"
    )


def x86(vendor: str, name: str, flags: str) -> str:
    return (
        f"vendor_id\t: {vendor}\ncpu family\t: 6\nmodel\t\t: 140\nmodel name\t: {name}\n"
        f"cpu MHz\t\t: 1234.567\nflags\t\t: fpu lm sse4_2 {flags}\nbugs\t\t: spectre_v1\n"
    )


def cpufreq(scaling_max: int, highest: int, base: int | None = None) -> dict[str, str | bytes]:
    folder = "/sys/devices/system/cpu/cpufreq/policy0"
    files: dict[str, str | bytes] = {
        f"{folder}/scaling_max_freq": f"{scaling_max}\n",
        f"{folder}/cpuinfo_max_freq": f"{highest}\n",
    }
    return files | ({f"{folder}/base_frequency": f"{base}\n"} if base else {})


def caches(**sizes: str) -> dict[str, str | bytes]:
    """Return cpu0's caches from such as ``d1="32K", i1="32K", u2="512K"``."""
    kinds = {"d": "Data", "i": "Instruction", "u": "Unified"}
    files: dict[str, str | bytes] = {}
    for index, (key, size) in enumerate(sizes.items()):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        files[f"{folder}/type"] = f"{kinds[key[0]]}\n"
        files[f"{folder}/level"] = f"{key[1]}\n"
        files[f"{folder}/size"] = f"{size}\n"
    return files


def zone(number: int, kind: str, millidegrees: int) -> dict[str, str | bytes]:
    folder = f"/sys/class/thermal/thermal_zone{number}"
    return {f"{folder}/type": f"{kind}\n", f"{folder}/temp": f"{millidegrees}\n"}


def dmi(vendor: str, product: str, chassis: int) -> dict[str, str | bytes]:
    folder = "/sys/class/dmi/id"
    return {
        f"{folder}/sys_vendor": f"{vendor}\n",
        f"{folder}/product_name": f"{product}\n",
        f"{folder}/chassis_type": f"{chassis}\n",
    }


def mounts(*cgroups: str, also: str = "") -> str:
    """Return a mountinfo with cgroup mounts, each ``ROOT POINT FSTYPE SUPEROPTIONS``."""
    lines = ["23 27 0:22 / /sys rw,relatime - sysfs sysfs rw"]
    for number, cgroup in enumerate(cgroups):
        root, point, kind, options = cgroup.split()
        lines.append(f"{30 + number} 23 0:29 {root} {point} ro,nosuid - {kind} {kind} {options}")
    return "\n".join([*lines, also, ""])


DOCKER_MOUNTS = "\n".join(
    f"90 80 254:1 /var/lib/docker/containers/1f/{name} /etc/{name} rw - ext4 /dev/vda1 rw"
    for name in ("resolv.conf", "hostname", "hosts")
)
V2 = "/ /sys/fs/cgroup cgroup2 rw"
PI_FIRMWARE = "/sys/devices/platform/soc/soc:firmware/get_throttled"
PI5_FIRMWARE = "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"

PI_3_32_BIT = Machine(
    {
        "/proc/cpuinfo": cpuinfo(
            4,
            arm(
                "0xd03",
                "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae "
                "evtstrm crc32",
                name="ARMv7 Processor rev 4 (v7l)",
                architecture=7,
            ),
            "Hardware\t: BCM2835\nRevision\t: a02082\nModel\t\t: Raspberry Pi 3 Model B Rev 1.2\n",
        ),
        "/proc/device-tree/model": b"Raspberry Pi 3 Model B Rev 1.2\0",
        "/proc/device-tree/compatible": b"raspberrypi,3-model-b\0brcm,bcm2837\0",
        "/proc/meminfo": meminfo(944_264),
        "/proc/sys/kernel/osrelease": "6.1.21-v7+\n",
        "/sys/devices/system/cpu/online": "0-3\n",
        "/etc/os-release": os_release("Raspbian GNU/Linux 11 (bullseye)"),
        "/bin/sh": elf(40, 32),
        "/lib/arm-linux-gnueabihf/libc.so.6": glibc("2.31"),
        PI_FIRMWARE: "0\n",
        **zone(0, "cpu-thermal", 48_312),
        **cpufreq(1_200_000, 1_200_000),
    }
)

PI_4 = Machine(
    {
        "/proc/cpuinfo": cpuinfo(
            4,
            arm("0xd08", "fp asimd evtstrm crc32 cpuid"),
            "Hardware\t: BCM2835\nRevision\t: c03112\nModel\t\t: Raspberry Pi 4 Model B Rev 1.2\n",
        ),
        "/proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.2\0",
        "/proc/device-tree/compatible": b"raspberrypi,4-model-b\0brcm,bcm2711\0",
        "/proc/meminfo": meminfo(3_884_028),
        "/proc/sys/kernel/osrelease": "6.6.51+rpt-rpi-v8\n",
        "/proc/self/cgroup": "0::/user.slice/user-1000.slice/session-1.scope\n",
        "/proc/self/mountinfo": mounts(V2),
        "/sys/devices/system/cpu/online": "0-3\n",
        "/etc/os-release": os_release("Debian GNU/Linux 12 (bookworm)"),
        "/bin/sh": elf(183, 64),
        "/lib/aarch64-linux-gnu/libc.so.6": glibc("2.36"),
        # The V3D GPU has a render node, which OpenVINO can't use.
        "/dev/dri/renderD128": "",
        PI_FIRMWARE: "50000\n",
        **zone(0, "cpu-thermal", 52_582),
        **cpufreq(1_800_000, 1_800_000),
    }
)

PI_5_THROTTLED = Machine(
    {
        "/proc/cpuinfo": cpuinfo(
            4,
            arm(
                "0xd0b",
                "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
                "lrcpc dcpop asimddp",
            ),
            "Revision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
        ),
        "/proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0\0",
        "/proc/device-tree/compatible": b"raspberrypi,5-model-b\0brcm,bcm2712\0",
        "/proc/meminfo": meminfo(8_256_384),
        "/proc/sys/kernel/osrelease": "6.6.31+rpt-rpi-2712\n",
        "/sys/devices/system/cpu/online": "0-3\n",
        "/etc/os-release": os_release("Debian GNU/Linux 12 (bookworm)"),
        "/bin/sh": elf(183, 64),
        "/lib/aarch64-linux-gnu/libc.so.6": glibc("2.36"),
        PI5_FIRMWARE: "e0008\n",
        **caches(d1="64K", i1="64K", u2="512K", u3="2048K"),
        **zone(0, "cpu-thermal", 85_100),
        **cpufreq(2_400_000, 2_400_000),
    }
)

JETSON_ORIN = Machine(
    {
        "/proc/cpuinfo": cpuinfo(
            12,
            arm(
                "0xd42",
                "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
                "lrcpc dcpop asimddp uscat ilrcpc flagm paca pacg",
                name="ARMv8 Processor rev 1 (v8l)",
            ),
        ),
        "/proc/device-tree/model": b"NVIDIA Jetson AGX Orin Developer Kit\0",
        "/proc/device-tree/compatible": b"nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0",
        "/proc/meminfo": meminfo(31_318_632),
        "/proc/sys/kernel/osrelease": "5.15.148-tegra\n",
        "/sys/devices/system/cpu/online": "0-11\n",
        "/etc/os-release": os_release("Ubuntu 22.04.4 LTS"),
        "/bin/sh": elf(183, 64),
        "/lib/aarch64-linux-gnu/libc.so.6": glibc("2.35"),
        "/dev/nvgpu/igpu0/power": "",
        **zone(0, "cpu-thermal", 49_031),
        **zone(1, "gpu-thermal", 61_000),
        **zone(2, "cv0-thermal", -256_000),
        **cpufreq(2_201_600, 2_201_600),
    }
)

LAPTOP_ON_BATTERY = Machine(
    {
        "/proc/cpuinfo": cpuinfo(
            8,
            x86(
                "GenuineIntel",
                "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz",
                "fma avx avx2 f16c avx512f avx512bw avx512vl avx512_vnni",
            ),
        ),
        "/proc/meminfo": meminfo(15 * GIB_KB),
        "/proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
        "/proc/sys/kernel/arch": "x86_64\n",
        "/sys/devices/system/cpu/online": "0-7\n",
        "/sys/devices/system/node/online": "0\n",
        "/etc/os-release": os_release("Ubuntu 24.04.1 LTS"),
        "/bin/sh": elf(62, 64),
        "/sys/class/power_supply/AC/type": "Mains\n",
        "/sys/class/power_supply/AC/online": "0\n",
        "/sys/class/power_supply/BAT0/type": "Battery\n",
        "/sys/class/power_supply/BAT0/status": "Discharging\n",
        "/dev/dri/renderD128": "",
        "/sys/class/drm/renderD128/device/vendor": "0x8086\n",
        **dmi("LENOVO", "20XW0055GE", 10),
        **zone(0, "acpitz", 41_000),
        **zone(1, "x86_pkg_temp", 63_000),
        **caches(d1="48K", i1="32K", u2="1280K", u3="12288K"),
        **cpufreq(4_700_000, 4_700_000, base=2_800_000),
    }
)

DESKTOP = Machine(
    {
        "/proc/cpuinfo": cpuinfo(
            16, x86("AuthenticAMD", "AMD Ryzen 7 5800X 8-Core Processor", "fma avx avx2 f16c")
        ),
        "/proc/meminfo": meminfo(32_768_000),
        "/proc/sys/kernel/osrelease": "6.1.0-25-amd64\n",
        "/sys/devices/system/cpu/online": "0-15\n",
        "/etc/os-release": os_release("Debian GNU/Linux 12 (bookworm)"),
        "/bin/sh": elf(62, 64),
        "/proc/driver/nvidia/gpus/0000:09:00.0/information": "Model: NVIDIA GeForce RTX 3060\n",
        "/sys/class/power_supply/hidpp_battery_0/type": "Battery\n",
        "/sys/class/power_supply/hidpp_battery_0/scope": "Device\n",
        "/sys/class/power_supply/hidpp_battery_0/status": "Discharging\n",
        "/sys/class/hwmon/hwmon2/name": "k10temp\n",
        "/sys/class/hwmon/hwmon2/temp1_input": "55250\n",
        **dmi("Micro-Star International Co., Ltd.", "MS-7C56", 3),
        **cpufreq(4_850_000, 4_850_000),
    }
)

_NODE: dict[str, str | bytes] = {
    "/proc/cpuinfo": cpuinfo(
        8,
        x86(
            "GenuineIntel",
            "Intel(R) Xeon(R) Platinum 8488C",
            "hypervisor fma avx avx2 f16c avx512f avx512bw avx512vl avx512_bf16 avx512_vnni "
            "avx_vnni avx512_fp16 amx_bf16 amx_tile amx_int8",
        ),
    ),
    "/proc/meminfo": meminfo(4_000_000),
    "/proc/sys/kernel/osrelease": "6.1.109-118.189.amzn2023.x86_64\n",
    "/proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-7\n",
    "/sys/devices/system/cpu/online": "0-7\n",
    "/etc/os-release": os_release("Debian GNU/Linux 12 (bookworm)"),
    "/bin/sh": elf(62, 64),
    **dmi("Amazon EC2", "m7i.2xlarge", 1),
}

CLOUD_SERVER = Machine(_NODE)

POD = Machine(
    {
        **_NODE,
        "/proc/self/cgroup": "0::/\n",
        "/proc/self/mountinfo": mounts(V2),
        "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n",
        "/sys/fs/cgroup/cpu.max": "50000 100000\n",
        "/sys/fs/cgroup/memory.max": "536870912\n",
        "/sys/fs/cgroup/cpuset.cpus.effective": "0-7\n",
        "/var/run/secrets/kubernetes.io/serviceaccount/namespace": "default",
    },
    {"KUBERNETES_SERVICE_HOST": "10.96.0.1"},
)

V1_CONTAINER = Machine(
    {
        **_NODE,
        "/.dockerenv": "",
        "/proc/self/cgroup": "\n".join(
            ["6:cpuset:/docker/1f", "4:memory:/docker/1f", "2:cpu,cpuacct:/docker/1f", ""]
        ),
        "/proc/self/mountinfo": mounts(
            "/docker/1f /sys/fs/cgroup/cpuset cgroup rw,cpuset",
            "/docker/1f /sys/fs/cgroup/memory cgroup rw,memory",
            "/docker/1f /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct",
            also=DOCKER_MOUNTS,
        ),
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
        "/sys/fs/cgroup/cpuset/cpuset.cpus": "0-3\n",
    }
)

SWARM_TASK = Machine(V1_CONTAINER.files, {"SCANFLOW_ORCHESTRATOR": "swarm"})

_JOB = "/system.slice/slurmstepd.scope/job_42"
SLURM_JOB = Machine(
    {
        **_NODE,
        **dmi("Dell Inc.", "PowerEdge R760", 23),
        "/proc/self/status": "Name:\tpython\nCpus_allowed_list:\t2-4\n",
        "/proc/self/cgroup": f"0::{_JOB}/step_0/user/task_0\n",
        "/proc/self/mountinfo": mounts(V2),
        f"/sys/fs/cgroup{_JOB}/cpuset.cpus.effective": "2-5\n",
        f"/sys/fs/cgroup{_JOB}/memory.max": str(2 << 30),
        f"/sys/fs/cgroup{_JOB}/step_0/user/task_0/memory.max": "max\n",
        "/sys/devices/system/node/online": "0-1\n",
    },
    {"SLURM_JOB_ID": "42"},
)

MACHINES = {
    "pi-3-32-bit": PI_3_32_BIT,
    "pi-4": PI_4,
    "pi-5-throttled": PI_5_THROTTLED,
    "jetson-orin": JETSON_ORIN,
    "laptop-on-battery": LAPTOP_ON_BATTERY,
    "desktop": DESKTOP,
    "cloud-server": CLOUD_SERVER,
    "pod": POD,
    "v1-container": V1_CONTAINER,
    "swarm-task": SWARM_TASK,
    "slurm-job": SLURM_JOB,
}
