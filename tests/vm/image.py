# SPDX-License-Identifier: BSD-2-Clause
"""What a guest is made of: Debian's kernel, which is unpacked and never installed; an initramfs of busybox and modules, built
once; and a second one, built for each boot, with the programs under test and the libraries that they need."""
import fcntl
import os
import pathlib
import re
import shutil
import stat
import subprocess

HERE = pathlib.Path(__file__).resolve().parent

# With what they depend on. The cloud kernel is smaller and boots faster; the full one also drives Intel's NICs.
MODULES = ("virtio_pci", "virtio_console", "vfio_iommu_type1", "vfio-pci", "virtio_net", "vmxnet3", "e1000", "e1000e", "tun", "veth",
           "macvlan", "nf_tables", "nfnetlink", "nfit", "nd_pmem", "dax_pmem", "device_dax")
KERNELS = {"cloud": "linux-image-cloud-amd64", "full": "linux-image-amd64"}


class Unavailable(Exception):
    """Something that a guest needs cannot be had here: the tests are skipped."""


def run(*command, seconds=60, cwd=None):
    try:
        done = subprocess.run(command, cwd=cwd, timeout=seconds, capture_output=True, text=True, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, f"{command[0]}: {error}"
    return done.returncode, done.stdout + done.stderr


class Cpio:
    """An archive in the format `newc` (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.parts, self.number, self.seen = [], 0, set()

    def entry(self, name, mode, data=b""):
        if name in self.seen:
            return
        self.seen.add(name)
        parent = os.path.dirname(name)
        if parent:
            self.entry(parent, stat.S_IFDIR | 0o755)
        self.number += 1
        head = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        text = b"070701" + b"".join(b"%08x" % field for field in head) + name.encode() + b"\0"
        self.parts += [text, b"\0" * (-len(text) % 4), data, b"\0" * (-len(data) % 4)]

    def file(self, name, source, mode=0o755):
        self.entry(name, stat.S_IFREG | mode, pathlib.Path(source).read_bytes())

    def text(self, name, content, mode=0o644):
        self.entry(name, stat.S_IFREG | mode, content.encode())

    def link(self, name, target):
        self.entry(name, stat.S_IFLNK | 0o777, target.encode())

    def write(self, path):
        self.entry("TRAILER!!!", 0)
        path.write_bytes(b"".join(self.parts))


def needs_programs():
    missing = [p for p in ("qemu-system-x86_64", "busybox", "dpkg-deb", "apt-get", "ldd", "strip") if not shutil.which(p)]
    if missing:
        raise Unavailable(f"not there: {' '.join(missing)} (scripts/install-deps vm)")
    code, text = run("ldd", shutil.which("busybox"))
    if code == 0 and "=>" in text:
        raise Unavailable("busybox is not the static one (scripts/install-deps vm)")


def kernel_package(kernel):
    """The package with a version in its name that the one without depends on."""
    for attempt in range(2):
        code, text = run("apt-cache", "depends", "--important", KERNELS[kernel])
        found = re.search(r"^ *Depends: (linux-image-\S+)", text, re.M)
        if code == 0 and found:
            return found.group(1)
        # A machine that was set up just now has no lists yet.
        if attempt == 0 and os.geteuid() == 0:
            run("apt-get", "update", "-q", seconds=300)
    raise Unavailable(f"apt knows no {KERNELS[kernel]}; run: apt-get update")


def fetch_kernel(kernel, cache):
    """The folder with boot/vmlinuz-* and lib/modules/*."""
    there = cache / f"kernel-{kernel}"
    complete = there / "complete"
    if complete.exists() and complete.read_text().splitlines()[1:] == list(MODULES):
        return there
    package = kernel_package(kernel)
    work = cache / f"fetch-{kernel}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    # With a list that is older than the archive apt asks for a file that is gone.
    code, text = run("apt-get", "-q", "download", package, seconds=400, cwd=work)
    if code and os.geteuid() == 0:
        run("apt-get", "update", "-q", seconds=300)
        package = kernel_package(kernel)
        code, text = run("apt-get", "-q", "download", package, seconds=400, cwd=work)
    archives = sorted(work.glob("*.deb"))
    if code or not archives:
        raise Unavailable(f"the kernel cannot be fetched: apt-get download {package}: {text.strip()[-300:]}")
    code, text = run("dpkg-deb", "-x", str(archives[0]), str(work / "tree"), seconds=120)
    if code:
        raise Unavailable(f"the kernel cannot be unpacked: {text.strip()[-300:]}")
    tree = work / "tree"
    wanted = work / "wanted"
    copy_modules(tree, wanted)
    (wanted / "boot").mkdir()
    for image in tree.glob("boot/vmlinuz-*"):
        shutil.copy(image, wanted / "boot" / "vmlinuz")
    (wanted / "complete").write_text("\n".join([package, *MODULES]) + "\n")
    shutil.rmtree(there, ignore_errors=True)
    wanted.rename(there)
    shutil.rmtree(work)
    return there


def copy_modules(tree, wanted):
    """The modules of MODULES that there are, what they depend on, and the list that modprobe reads."""
    (root,) = tree.glob("lib/modules/*")
    paths = {p.stem.replace("-", "_"): p for p in root.rglob("*.ko")}
    depends = {}

    def take(name):
        if name in depends or name not in paths:
            return
        depends[name] = [d.replace("-", "_") for d in modinfo_depends(paths[name])]
        for other in depends[name]:
            take(other)

    for module in MODULES:
        take(module.replace("-", "_"))
    target = wanted / "lib" / "modules" / root.name
    target.mkdir(parents=True)
    lines = []
    for name, needs in depends.items():
        shutil.copy(paths[name], target / paths[name].name)
        closure = []
        stack = list(needs)
        while stack:
            other = stack.pop()
            if other in depends and other not in closure:
                closure.append(other)
                stack += depends[other]
        lines.append(f"{paths[name].name}: " + " ".join(paths[other].name for other in closure))
    (target / "modules.dep").write_text("\n".join(lines) + "\n")


def modinfo_depends(path):
    """Of section .modinfo: depends=a,b."""
    found = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
    return [d for d in found.group(1).decode().split(",") if d] if found else []


def base_image(kernel, cache):
    """(vmlinuz, initramfs): fetched and built by whoever comes first, for all build trees."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        needs_programs()
        tree = fetch_kernel(kernel, cache)
        image = cache / f"base-{kernel}.cpio"
        sources = [HERE / "image.py", *sorted((HERE / "guest").iterdir()), tree / "complete"]
        if not image.exists() or any(s.stat().st_mtime > image.stat().st_mtime for s in sources):
            write_base(tree, image)
        return tree / "boot" / "vmlinuz", image


def write_base(tree, image):
    cpio = Cpio()
    for folder in ("proc", "sys", "dev", "tmp", "run", "root", "var/run", "etc"):
        cpio.entry(folder, stat.S_IFDIR | 0o755)
    busybox = shutil.which("busybox")
    cpio.file("bin/busybox", busybox)
    cpio.file("init", HERE / "guest" / "init")
    for helper in sorted((HERE / "guest").iterdir()):
        if helper.name != "init":
            cpio.file(f"bin/{helper.name}", helper)
    # What has a name there before the applets get theirs wins.
    _, applets = run(busybox, "--list")
    for applet in applets.split():
        cpio.link(f"bin/{applet}", "/bin/busybox")
    cpio.link("sbin", "bin")
    cpio.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    for module in sorted(tree.glob("lib/modules/*/*")):
        cpio.file(str(module.relative_to(tree)), module, 0o644)
    part = image.with_suffix(".part")
    cpio.write(part)
    part.rename(image)


def stripped(program, cache):
    """Debug information is most of a program and nobody looks at it in the guest."""
    status = program.stat()
    copy = cache / f"{program.name}-{status.st_size}-{status.st_mtime_ns}"
    if not copy.exists():
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"{program.name}-[0-9]*"):
            old.unlink()
        code, text = run("strip", "-g", "-o", str(copy), str(program))
        if code:
            raise OSError(f"strip {program}: {text}")
    return copy


def libraries(program):
    """The files that the loader will want, itself among them."""
    code, text = run("ldd", str(program))
    if "not a dynamic executable" in text or "statically linked" in text:
        return []
    missing = re.findall(r"(\S+) => not found", text)
    if code or missing:
        raise OSError(f"ldd {program}: {text}")
    return re.findall(r"(/\S+) \(0x", text)


def payload(programs, texts, path, cache):
    """An initramfs with these programs in /bin and their libraries, and files {name: text}."""
    cpio = Cpio()
    for program in programs:
        cpio.file(f"bin/{program.name}", stripped(program, cache))
        for library in libraries(program):
            # /lib may be a link there; here each path is a folder of its own.
            cpio.file(library.lstrip("/"), library)
    for name, content in texts.items():
        cpio.text(name, content, 0o755)
    cpio.write(path)
