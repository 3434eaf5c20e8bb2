// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/ptnet_device.hpp"

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <linux/pci_regs.h>
#include <optional>
#include <sys/sysmacros.h>

#include "nm/sys/vfio.hpp"
#include "pci_tree.hpp"

namespace nm::sys {

using base::errno_text;
using base::unique_fd;

namespace {

constexpr std::size_t own_number_at = 8, doorbell_at = 12, registers_size = 16;  // of BAR0: IVPosition, Doorbell

struct memory_window {
    base::mapping owned;  // what of it is not VFIO's
    std::byte* at = nullptr;
    std::size_t size = 0;
};

tl::unexpected<error> without_doorbells(const std::string& address) {
    return fail(ENODEV, address + " has no doorbells: it is ivshmem-plain, and QEMU wants -device ivshmem-doorbell for this (ptnet-host says how)");
}

std::string of(const std::string& address) { return " of " + address; }

/// Bytes of a BAR, by the lines of the file `resource`: first last flags.
std::size_t bar_size(const std::string& folder, unsigned index) {
    std::ifstream file(folder + "/resource");
    std::string line;
    for (unsigned i = 0; std::getline(file, line); ++i) {
        unsigned long long first = 0, last = 0;
        if (i == index && std::sscanf(line.c_str(), "%llx %llx", &first, &last) == 2 && last > first)
            return static_cast<std::size_t>(last - first + 1);
    }
    return 0;
}

result<memory_window> map_resource(const std::string& address, const std::string& path, std::size_t size) {
    const unique_fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_SYNC));
    if (!fd) {
        const int e = errno;
        return fail(e, "cannot open " + path + ": " + errno_text(e) +
                           (e == EACCES || e == EPERM ? "; without VFIO it takes root; or bind it with: nmctl bind " + address : ""));
    }
    constexpr std::size_t page = 4096;
    auto m = base::map((size + page - 1) / page * page, MAP_SHARED, fd.get());
    if (!m) {
        auto text = "cannot map " + path + ": " + errno_text(m.error().code.value());
        if (m.error().code.value() == EINVAL || m.error().code.value() == EPERM) text += "; is a driver of the kernel's using " + address + "?";
        return fail(m.error().code.value(), text);
    }
    memory_window w{std::move(*m), nullptr, size};
    w.at = w.owned.data();
    return w;
}

/// Registers answer when the device's memory space is on, which firmware usually has done.
result<void> turn_on_memory_space(const std::string& address, const std::string& folder) {
    const unique_fd fd(::open((folder + "/config").c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return fail(errno, "cannot open the configuration" + of(address) + ": " + errno_text(errno) + "; it takes root (sudo)");
    std::uint16_t command = 0;
    if (::pread(fd.get(), &command, sizeof command, PCI_COMMAND) != sizeof command) return fail(EIO, "cannot read the configuration" + of(address));
    if ((command & PCI_COMMAND_MEMORY) != 0) return {};
    command |= PCI_COMMAND_MEMORY;
    if (::pwrite(fd.get(), &command, sizeof command, PCI_COMMAND) == sizeof command) return {};
    return fail(errno, "cannot turn on the registers" + of(address) + ": " + errno_text(errno));
}

/// A devdax is mapped in whole pages of its own size; the kernel says how large it is.
result<memory_window> map_dax(const std::string& path) {
    const unique_fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat st {};
    if (!fd || ::fstat(fd.get(), &st) != 0) return fail(errno, "cannot open " + path + ": " + errno_text(errno));
    if (!S_ISCHR(st.st_mode))
        return fail(EINVAL, path + " is no devdax, and another kind of mapping is not the host's memory itself; make one with: ndctl "
                                   "create-namespace -f -e namespace0.0 -m devdax -M mem");
    const auto folder = "/sys/dev/char/" + std::to_string(::major(st.st_rdev)) + ":" + std::to_string(::minor(st.st_rdev));
    const auto size = std::strtoull(pci::read_line(folder + "/size").c_str(), nullptr, 10);
    if (size == 0) return fail(EINVAL, path + " does not say how large it is: is it a devdax?");
    auto m = base::map(static_cast<std::size_t>(size), MAP_SHARED, fd.get());
    if (!m) return forward_error(m);
    memory_window w{std::move(*m), nullptr, static_cast<std::size_t>(size)};
    w.at = w.owned.data();
    return w;
}

/// The devdax that has what BAR2 says is to be found there.
result<memory_window> find_dax(const std::byte* bar, std::string& where) {
    std::uint64_t wanted = 0, identity = 0;
    std::memcpy(&wanted, bar + sizeof ptnet_elsewhere, sizeof wanted);
    for (const auto& name : pci::entries("/sys/bus/dax/devices")) {
        auto w = map_dax("/dev/" + name);
        if (!w || w->size < 4096) continue;
        std::memcpy(&identity, w->at + ptnet_identity_at, sizeof identity);
        if (identity != wanted) continue;
        where = "/dev/" + name;
        return w;
    }
    return fail(ENODEV, "the memory is in an nvdimm, but no /dev/dax has it: load dax_pmem, and see `ndctl list -N` (docs/ptnet.md)");
}

}  // namespace

struct ptnet_device::state {
    pci_info info;
    std::string reason, advice;
    const char* mode = "ptnet sysfs";
    std::optional<vfio_device> vfio;  // unmapped after what it lends
    memory_window registers, memory;
    std::vector<unique_fd> wakes;
    unsigned vectors = 0;

    [[nodiscard]] volatile std::uint32_t* at(std::size_t offset) const noexcept {
        return reinterpret_cast<volatile std::uint32_t*>(registers.at + offset);
    }
    result<void> open_vfio(const ptnet_device_options& o);
    result<void> open_sysfs();
    result<void> place_memory(const ptnet_device_options& o);
};

result<void> ptnet_device::state::open_vfio(const ptnet_device_options& o) {
    vfio_options how;
    how.allow_no_iommu = o.allow_no_iommu;
    auto d = vfio_device::open(info.address, how);
    if (!d) return forward_error(d);
    vfio.emplace(std::move(*d));
    mode = "ptnet vfio";
    const auto bar = [&](unsigned index) -> result<memory_window> {
        auto m = vfio->map_bar(index);
        if (!m) return forward_error(m);
        return memory_window{{}, m->at, m->size};
    };
    vectors = vfio->irq_count(irq_kind::msix);
    if (vectors == 0) return without_doorbells(info.address);
    auto b0 = bar(0);
    if (!b0) return forward_error(b0);
    registers = std::move(*b0);
    auto b2 = bar(2);
    if (!b2) return fail(b2.error().code.value(), info.address + " has no memory: " + b2.error().text);
    memory = std::move(*b2);
    std::vector<int> fds;
    for (unsigned v = 0; v < vectors; ++v) {
        auto fd = base::make_eventfd();
        if (!fd) return forward_error(fd);
        fds.push_back(fd->get());
        wakes.push_back(std::move(*fd));
    }
    if (auto r = vfio->set_irqs(irq_kind::msix, fds); !r) return r;
    return vfio->bus_master(true);  // an MSI is a write to memory
}

result<void> ptnet_device::state::open_sysfs() {
    const auto folder = "/sys/bus/pci/devices/" + info.address;
    if (pci::is_vfio_driver(info.driver))
        return fail(EBUSY, "vfio-pci has " + info.address + ", and may have put it to sleep: open it by VFIO, or first: nmctl unbind " + info.address);
    if (!info.driver.empty()) return fail(EBUSY, info.address + " is bound to " + info.driver + "; bind it with: nmctl bind " + info.address);
    if (bar_size(folder, 1) == 0) return without_doorbells(info.address);  // BAR1 has the interrupts
    const auto size = bar_size(folder, 2);
    if (size == 0) return fail(ENODEV, info.address + " has no memory (no BAR2); QEMU wants -device ivshmem-doorbell with our server's socket");
    if (auto r = turn_on_memory_space(info.address, folder); !r) return r;
    auto b0 = map_resource(info.address, folder + "/resource0", std::max(bar_size(folder, 0), registers_size));
    if (!b0) return forward_error(b0);
    registers = std::move(*b0);
    const bool combining = ::access((folder + "/resource2_wc").c_str(), F_OK) == 0;
    auto b2 = map_resource(info.address, folder + (combining ? "/resource2_wc" : "/resource2"), size);
    if (!b2) return forward_error(b2);
    memory = std::move(*b2);
    reason = "vfio-pci does not have it: no interrupts, whoever waits looks again and again";
    advice = info.iommu_group.empty() ? "a virtual IOMMU (QEMU: -device intel-iommu,intremap=on,caching-mode=on), then: nmctl bind " + info.address
                                      : "nmctl bind " + info.address;
    return {};
}

result<void> ptnet_device::state::place_memory(const ptnet_device_options& o) {
    std::uint64_t first = 0;
    if (memory.size < 32) return fail(ENODEV, info.address + " has no memory worth the name");
    std::memcpy(&first, memory.at, sizeof first);
    std::string where = o.memory;
    if (where.empty() && first != ptnet_elsewhere) return {};
    auto w = where.empty() ? find_dax(memory.at, where) : map_dax(where);
    if (!w) return forward_error(w);
    memory = std::move(*w);
    reason += (reason.empty() ? "memory in " : "; memory in ") + where;
    return {};
}

ptnet_device::ptnet_device(std::unique_ptr<state> s) noexcept : s_(std::move(s)) {}
ptnet_device::~ptnet_device() = default;

result<std::shared_ptr<ptnet_device>> ptnet_device::open(std::string_view address, const ptnet_device_options& options) {
    auto s = std::make_unique<state>();
    auto info = query_pci(address);
    if (!info) return forward_error(info);
    s->info = std::move(*info);
    if (!is_ptnet(s->info.ids)) {
        std::array<char, 16> ids{};
        std::snprintf(ids.data(), ids.size(), "%04x:%04x", s->info.ids.vendor, s->info.ids.device);
        return fail(ENODEV, s->info.address + " is " + ids.data() + ", not 1af4:1110, QEMU's ivshmem-doorbell; a NIC is written netmap:" + s->info.address);
    }
    const bool by_vfio = options.way == ptnet_way::vfio || (options.way == ptnet_way::any && pci::is_vfio_driver(s->info.driver));
    if (auto r = by_vfio ? s->open_vfio(options) : s->open_sysfs(); !r) return forward_error(r);
    if (auto r = s->place_memory(options); !r) return forward_error(r);
    return std::shared_ptr<ptnet_device>(new ptnet_device(std::move(s)));
}

const std::string& ptnet_device::address() const noexcept { return s_->info.address; }
std::byte* ptnet_device::base() const noexcept { return s_->memory.at; }
std::size_t ptnet_device::size() const noexcept { return s_->memory.size; }
bool ptnet_device::interrupts() const noexcept { return s_->vfio.has_value(); }
unsigned ptnet_device::vectors() const noexcept { return s_->vectors; }
unsigned ptnet_device::peer() const noexcept { return *s_->at(own_number_at); }
const char* ptnet_device::mode() const noexcept { return s_->mode; }
const std::string& ptnet_device::reason() const noexcept { return s_->reason; }
const std::string& ptnet_device::advice() const noexcept { return s_->advice; }

result<ptnet_link> ptnet_device::link(const std::shared_ptr<ptnet_device>& self, unsigned host, unsigned first, unsigned count) {
    const auto& s = *self->s_;
    constexpr unsigned most = 2048;
    if (count > most || first > most - count || host > 0xffff) return fail(EINVAL, "the memory" + of(s.info.address) + " names doorbells that cannot be");
    if (s.vfio && first + count > s.vectors)
        return fail(EINVAL, s.info.address + " has " + std::to_string(s.vectors) + " vectors, and this port wants those from " + std::to_string(first) +
                                " to " + std::to_string(first + count - 1) + "; start QEMU with vectors=" + std::to_string(first + count) + " or more");
    ptnet_link l;
    l.base = s.memory.at;
    l.size = s.memory.size;
    for (unsigned v = first; v < first + count; ++v) {
        l.bells.push_back({-1, s.at(doorbell_at), host << 16 | v});
        if (!s.vfio) continue;
        unique_fd fd(::fcntl(s.wakes[v].get(), F_DUPFD_CLOEXEC, 0));
        if (!fd) return fail(errno, "cannot duplicate a descriptor: " + errno_text(errno) + " (raise `ulimit -n`?)");
        l.wakes.push_back(std::move(fd));
    }
    l.keep = self;
    return l;
}

}  // namespace nm::sys
