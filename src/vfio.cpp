// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/vfio.hpp"

#include <array>
#include <cstring>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <optional>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "vfio_space.hpp"

namespace nm::sys {

using base::errno_text;
using base::unique_fd;

namespace {

struct region {
    std::uint64_t size = 0, offset = 0;
    std::uint32_t flags = 0;
    bool may_map_table = false;
    std::optional<std::vector<bar_area>> areas;  // the kernel's, if it names them
};

/// VFIO_DEVICE_GET_REGION_INFO with what follows it; size 0 when there is no such region.
region ask_region(int device, unsigned index) {
    region r;
    std::vector<std::byte> buffer(sizeof(vfio_region_info));
    vfio_region_info head{};
    for (int i = 0; i < 4; ++i) {
        head = {};
        head.argsz = static_cast<std::uint32_t>(buffer.size());
        head.index = index;
        std::memcpy(buffer.data(), &head, sizeof head);
        if (::ioctl(device, VFIO_DEVICE_GET_REGION_INFO, buffer.data()) != 0) return r;
        std::memcpy(&head, buffer.data(), sizeof head);
        if (head.argsz <= buffer.size()) break;
        buffer.assign(head.argsz, std::byte{0});
    }
    r.size = head.size;
    r.offset = head.offset;
    r.flags = head.flags;
    const auto fits = [&](std::size_t from, std::size_t n) { return from <= buffer.size() && n <= buffer.size() - from; };
    std::size_t at = (head.flags & VFIO_REGION_INFO_FLAG_CAPS) != 0 ? head.cap_offset : 0;
    vfio_info_cap_header cap{};
    for (int links = 0; at != 0 && links < 64 && fits(at, sizeof cap); ++links, at = cap.next) {
        std::memcpy(&cap, buffer.data() + at, sizeof cap);
        if (cap.id == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) r.may_map_table = true;
        capability_list list;
        if (cap.id != VFIO_REGION_INFO_CAP_SPARSE_MMAP || !fits(at, sizeof list)) continue;
        std::memcpy(&list, buffer.data() + at, sizeof list);
        r.areas.emplace();
        auto from = at + sizeof list;
        for (std::uint32_t n = 0; n < list.count && fits(from, sizeof(vfio_region_sparse_mmap_area)); ++n) {
            vfio_region_sparse_mmap_area a{};
            std::memcpy(&a, buffer.data() + from, sizeof a);
            r.areas->push_back({a.offset, a.size});
            from += sizeof a;
        }
    }
    return r;
}

std::string kib(std::uint64_t bytes) { return std::to_string((bytes + 1023) / 1024); }

/// Memory of this process that is locked or pinned already.
std::uint64_t locked_bytes() {
    std::uint64_t in_kib = 0;
    FILE* file = std::fopen("/proc/self/status", "re");
    if (file == nullptr) return 0;
    std::array<char, 256> line{};
    while (std::fgets(line.data(), line.size(), file) != nullptr)
        if (std::sscanf(line.data(), "VmLck: %lu", &in_kib) == 1) break;
    (void)std::fclose(file);
    return in_kib * 1024;
}

tl::unexpected<error> map_failed(const std::string& address, int error_number, std::size_t size) {
    if (error_number == ENOMEM) {
        rlimit limit{};
        const auto locked = locked_bytes();
        if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && locked + size > limit.rlim_cur) {
            const auto wanted = kib(locked + size);
            return fail(ENOMEM, "this user may pin " + kib(limit.rlim_cur) + " KiB of memory, and " + address + " needs " + wanted +
                                    ": `ulimit -l " + wanted + "` before it starts (as root, or `* - memlock " + wanted +
                                    "` in /etc/security/limits.conf), or LimitMEMLOCK=" + wanted + "K in its systemd unit");
        }
        return fail(ENOMEM, "the kernel has not enough memory to map " + kib(size) + " KiB for " + address);
    }
    if (error_number == EFAULT)
        return fail(EFAULT, "cannot map memory for " + address + ": not all of it is there and writable");
    if (error_number == ENOSPC)
        return fail(ENOSPC, "the kernel maps no more pieces of memory for " + address +
                                "; use fewer and larger ones, or raise vfio_iommu_type1's dma_entry_limit");
    return fail(error_number, "cannot map " + kib(size) + " KiB for " + address + ": " + errno_text(error_number));
}

}  // namespace

struct vfio_device::state {
    struct bar {
        base::mapping memory;
        std::size_t size = 0;
    };
    struct mapped {
        std::uint64_t iova = 0, size = 0;
    };

    pci_info info;
    bool no_iommu = false;
    bool can_reset = false;
    std::unique_ptr<vfio_space> space;
    unique_fd device;
    region config;
    std::array<bar, 6> bars;
    std::array<unsigned, 3> irqs{};
    std::optional<irq_kind> active;
    std::size_t active_count = 0;
    iova_space addresses;
    std::vector<mapped> mappings;

    state() = default;
    state(const state&) = delete;
    state& operator=(const state&) = delete;
    ~state() {
        if (!device) return;
        // What a device still has in hand could otherwise land in memory that is somebody else's by then.
        (void)set_command(PCI_COMMAND_MASTER, false);
        if (can_reset) (void)::ioctl(device.get(), VFIO_DEVICE_RESET);
        (void)no_irqs();
        if (!no_iommu)
            for (const auto& m : mappings) (void)space->unmap(m.iova, m.size);
        for (auto& b : bars) b.memory.reset();  // a live one would keep the group
        device.reset();
        space.reset();
    }

    [[nodiscard]] std::uint32_t read(unsigned offset, unsigned bytes) const noexcept {
        std::uint32_t value = 0;
        if ((bytes != 1 && bytes != 2 && bytes != 4) || offset + std::uint64_t{bytes} > config.size) return ~0U;
        const auto n = ::pread(device.get(), &value, bytes, static_cast<off_t>(config.offset + offset));
        return n == static_cast<ssize_t>(bytes) ? value : ~0U;  // both ends are little-endian
    }
    [[nodiscard]] int write(unsigned offset, unsigned bytes, std::uint32_t value) const noexcept {
        if ((bytes != 1 && bytes != 2 && bytes != 4) || offset + std::uint64_t{bytes} > config.size) return EINVAL;
        const auto n = ::pwrite(device.get(), &value, bytes, static_cast<off_t>(config.offset + offset));
        return n == static_cast<ssize_t>(bytes) ? 0 : n < 0 ? errno : EIO;
    }
    [[nodiscard]] int set_command(std::uint32_t bits, bool on) const noexcept {
        const auto now = read(PCI_COMMAND, 2);
        if (now == ~0U) return EIO;
        const auto wanted = on ? now | bits : now & ~bits;
        return wanted == now ? 0 : write(PCI_COMMAND, 2, wanted);
    }

    /// Of a device's list of capabilities: where this one is, or 0.
    [[nodiscard]] unsigned find_capability(std::uint32_t id) const noexcept {
        if ((read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) == 0) return 0;
        auto at = read(PCI_CAPABILITY_LIST, 1) & 0xfc;
        for (int links = 0; links < 48 && at >= 0x40 && at <= 0xfc; ++links) {
            if (read(at, 1) == id) return at;
            at = read(at + 1, 1) & 0xfc;
        }
        return 0;
    }
    [[nodiscard]] bar_area msix_table(unsigned index) const noexcept {
        const auto at = find_capability(PCI_CAP_ID_MSIX);
        if (at == 0) return {};
        const auto where = read(at + PCI_MSIX_TABLE, 4);
        if ((where & PCI_MSIX_TABLE_BIR) != index) return {};
        const auto entries = (read(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
        return {where & PCI_MSIX_TABLE_OFFSET, std::uint64_t{entries} * PCI_MSIX_ENTRY_SIZE};
    }

    [[nodiscard]] int no_irqs() noexcept {
        if (!active) return 0;
        vfio_irq_set s{};
        s.argsz = sizeof s;
        s.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        s.index = static_cast<std::uint32_t>(*active);
        if (::ioctl(device.get(), VFIO_DEVICE_SET_IRQS, &s) != 0) return errno;
        active.reset();
        return 0;
    }
};

vfio_device::vfio_device(std::unique_ptr<state> s) noexcept : s_(std::move(s)) {}
vfio_device::vfio_device(vfio_device&&) noexcept = default;
vfio_device& vfio_device::operator=(vfio_device&&) noexcept = default;
vfio_device::~vfio_device() = default;

result<vfio_device> vfio_device::open(std::string_view address, const vfio_options& options) {
    auto info = query_pci(address);
    if (!info) return forward_error(info);
    const auto& name = info->address;
    if (!pci::is_vfio_driver(info->driver)) {
        const std::string bind = "; bind it with: nmctl bind " + name;
        if (info->driver.empty()) return fail(ENODEV, name + " has no driver" + bind);
        return fail(EBUSY, name + " is bound to " + info->driver + bind);
    }
    const auto nodes = pci::vfio_nodes({}, name);
    if (nodes.group.empty() && nodes.cdev.empty())
        return fail(ENODEV, "vfio-pci has " + name + ", but no group for it; is the module vfio loaded? (modprobe vfio-pci)");
    if (info->iommu_group.empty() && !options.allow_no_iommu)
        return fail(EOPNOTSUPP, "no IOMMU keeps " + name + " in check: it could write to any memory, also after this program has "
                                "ended. Turn VT-d or AMD-Vi on in the firmware and boot with intel_iommu=on (or amd_iommu=on); or "
                                "ask for it without");

    const bool have_group = !nodes.group.empty() && ::access(nodes.group.c_str(), F_OK) == 0;
    // A container maps other devices' BARs too, which iommufd does not; so it comes first.
    const bool by_group = options.way == vfio_way::group || nodes.cdev.empty() || (options.way == vfio_way::any && have_group);
    auto opened = by_group ? open_by_group(*info, nodes) : open_by_iommufd(*info, nodes);
    if (!opened) return forward_error(opened);

    auto s = std::make_unique<state>();
    s->no_iommu = nodes.no_iommu;
    s->space = std::move(opened->space);
    s->device = std::move(opened->device);
    const int fd = s->device.get();
    vfio_device_info device{};
    device.argsz = sizeof device;
    if (::ioctl(fd, VFIO_DEVICE_GET_INFO, &device) != 0 || (device.flags & VFIO_DEVICE_FLAGS_PCI) == 0)
        return fail(EIO, name + " does not answer as a PCI device of VFIO");
    s->can_reset = (device.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
    s->config = ask_region(fd, VFIO_PCI_CONFIG_REGION_INDEX);
    for (unsigned i = 0; i < s->irqs.size(); ++i) {
        vfio_irq_info irq{};
        irq.argsz = sizeof irq;
        irq.index = i;
        if (::ioctl(fd, VFIO_DEVICE_GET_IRQ_INFO, &irq) == 0 && (irq.flags & VFIO_IRQ_INFO_EVENTFD) != 0) s->irqs[i] = irq.count;
    }
    if (const int e = s->set_command(PCI_COMMAND_MEMORY, true); e != 0)
        return fail(e, "cannot turn on the registers of " + name + ": " + errno_text(e));
    if (!s->no_iommu) s->addresses = iova_space(s->space->ranges());
    info->in_use = true;
    s->info = std::move(*info);
    return vfio_device(std::move(s));
}

const pci_info& vfio_device::info() const noexcept { return s_->info; }
bool vfio_device::no_iommu() const noexcept { return s_->no_iommu; }

result<bar_memory> vfio_device::map_bar(unsigned index) {
    const auto which = "BAR" + std::to_string(index) + " of " + s_->info.address;
    if (index >= s_->bars.size()) return fail(ENODEV, "there is no " + which);
    auto& bar = s_->bars[index];
    if (bar.memory) return bar_memory{bar.memory.data(), bar.size};
    const auto r = ask_region(s_->device.get(), index);
    if (r.size == 0) return fail(ENODEV, which + " is not there");
    if ((r.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0) {
        if ((s_->read(PCI_BASE_ADDRESS_0 + 4 * index, 4) & PCI_BASE_ADDRESS_SPACE_IO) != 0)
            return fail(ENODEV, which + " is of I/O ports, which cannot be mapped");
        return fail(ENODEV, which + " shares a page with another device's and cannot be mapped; boot with pci=resource_alignment=" +
                                s_->info.address);
    }
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const auto whole = (r.size + page - 1) / page * page;
    void* p = ::mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return fail(errno, "cannot map " + which + ": " + errno_text(errno));
    base::mapping memory(p, whole);
    for (const auto& a : r.areas ? *r.areas : areas_around(r.size, s_->msix_table(index), page, r.may_map_table)) {
        if (a.size == 0) continue;
        if (a.offset > whole || a.size > whole - a.offset) return fail(EIO, "the kernel says nonsense of " + which);
        const void* at = ::mmap(memory.data() + a.offset, a.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s_->device.get(),
                                static_cast<off_t>(r.offset + a.offset));
        if (at == MAP_FAILED) return fail(errno, "cannot map " + which + ": " + errno_text(errno));
    }
    bar.memory = std::move(memory);
    bar.size = static_cast<std::size_t>(r.size);
    return bar_memory{bar.memory.data(), bar.size};
}

std::uint32_t vfio_device::config_read(unsigned offset, unsigned bytes) const noexcept { return s_->read(offset, bytes); }

result<void> vfio_device::config_write(unsigned offset, unsigned bytes, std::uint32_t value) noexcept {
    const int e = s_->write(offset, bytes, value);
    if (e == 0) return {};
    return fail(e, "cannot write " + std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                       " of the configuration of " + s_->info.address + ": " + errno_text(e));
}

result<void> vfio_device::bus_master(bool on) noexcept {
    const int e = s_->set_command(PCI_COMMAND_MASTER, on);
    if (e == 0) return {};
    return fail(e, std::string("cannot turn ") + (on ? "on" : "off") + " the DMA of " + s_->info.address + ": " + errno_text(e));
}

unsigned vfio_device::irq_count(irq_kind kind) const noexcept { return s_->irqs[static_cast<unsigned>(kind)]; }

result<void> vfio_device::set_irqs(irq_kind kind, std::span<const int> eventfds) {
    constexpr std::array<const char*, 3> names{"INTx", "MSI", "MSI-X"};
    const auto index = static_cast<unsigned>(kind);
    const auto vectors = [&] { return std::string(names[index]) + " interrupts of " + s_->info.address; };
    if (eventfds.size() > s_->irqs[index])
        return fail(s_->irqs[index] == 0 ? ENODEV : EINVAL, "there are " + std::to_string(s_->irqs[index]) + " " + vectors() +
                                                                ", not " + std::to_string(eventfds.size()));
    // A set of vectors does not grow while it is in use, and only one kind is.
    if (s_->active && (eventfds.empty() || *s_->active != kind || s_->active_count != eventfds.size()))
        if (const int e = s_->no_irqs(); e != 0) return fail(e, "cannot end the interrupts of " + s_->info.address + ": " + errno_text(e));
    if (eventfds.empty()) return {};
    static_assert(sizeof(int) == 4);
    std::vector<std::byte> buffer(sizeof(vfio_irq_set) + eventfds.size_bytes());
    vfio_irq_set s{};
    s.argsz = static_cast<std::uint32_t>(buffer.size());
    s.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    s.index = index;
    s.count = static_cast<std::uint32_t>(eventfds.size());
    std::memcpy(buffer.data(), &s, sizeof s);
    std::memcpy(buffer.data() + sizeof s, eventfds.data(), eventfds.size_bytes());
    // 0, or how many there are instead
    const int got = ::ioctl(s_->device.get(), VFIO_DEVICE_SET_IRQS, buffer.data());
    if (got > 0 || (got < 0 && errno == ENOSPC))
        return fail(ENOSPC, "the kernel has not " + std::to_string(eventfds.size()) + " interrupts left to give for the " + vectors() +
                                "; use fewer rings");
    if (got < 0) return fail(errno, "cannot have the " + vectors() + ": " + errno_text(errno));
    s_->active = kind;
    s_->active_count = eventfds.size();
    return {};
}

void vfio_device::unmask_intx() noexcept {
    vfio_irq_set s{};
    s.argsz = sizeof s;
    s.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
    s.index = VFIO_PCI_INTX_IRQ_INDEX;
    s.count = 1;
    (void)::ioctl(s_->device.get(), VFIO_DEVICE_SET_IRQS, &s);
}

result<std::uint64_t> vfio_device::dma_map(void* memory, std::size_t size, unsigned bits) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    if (size == 0 || size % page != 0 || reinterpret_cast<std::uintptr_t>(memory) % page != 0)
        return fail(EINVAL, "memory for " + s_->info.address + " must be whole pages");
    if (s_->no_iommu) {
        auto at = physical_address(memory, size);
        if (at && bits < 64 && (*at + size) >> bits != 0)
            return fail(ENOSPC, "this memory is beyond the " + std::to_string(bits) + " bits of address that " + s_->info.address + " has");
        if (at) s_->mappings.push_back({*at, size});
        return at;
    }
    const auto iova = s_->addresses.take(size, bits);
    if (!iova)
        return fail(ENOSPC, s_->info.address + " has no room for " + kib(size) + " KiB more" +
                                (bits < 64 ? " in the " + std::to_string(bits) + " bits of address that it has" : std::string()) +
                                ": the addresses that its IOMMU translates are used up");
    if (const int e = s_->space->map(memory, size, *iova); e != 0) {
        s_->addresses.give_back(*iova);
        return map_failed(s_->info.address, e, size);
    }
    s_->mappings.push_back({*iova, size});
    return *iova;
}

result<void> vfio_device::dma_unmap(std::uint64_t iova) noexcept {
    const auto m = std::find_if(s_->mappings.begin(), s_->mappings.end(), [&](const auto& a) { return a.iova == iova; });
    if (m == s_->mappings.end()) return fail(ENOENT, "nothing is mapped there for " + s_->info.address);
    if (!s_->no_iommu) {
        if (const int e = s_->space->unmap(m->iova, m->size); e != 0)
            return fail(e, "cannot unmap memory of " + s_->info.address + ": " + errno_text(e));
        s_->addresses.give_back(iova);
    }
    s_->mappings.erase(m);
    return {};
}

result<void> vfio_device::reset() noexcept {
    if (!s_->can_reset) return fail(ENOTTY, "the kernel knows no way to reset " + s_->info.address + "; its registers may have one");
    if (::ioctl(s_->device.get(), VFIO_DEVICE_RESET) == 0) return {};
    return fail(errno, s_->info.address + " cannot be reset: " + errno_text(errno) + "; if it stays so: nmctl unbind " +
                           s_->info.address + ", then bind it again, or turn the machine off and on");
}

}  // namespace nm::sys
