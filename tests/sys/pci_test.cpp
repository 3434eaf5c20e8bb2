// SPDX-License-Identifier: BSD-2-Clause
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <unistd.h>

#include "../../src/pci_tree.hpp"
#include "nm/sys/pci.hpp"

namespace {

namespace fs = std::filesystem;
using nm::sys::pci::tree;

/// A sysfs and a kernel of our own: writing to unbind and drivers_probe moves a device's `driver` link.
class Pci : public testing::Test {
protected:
    static constexpr const char* nic = "0000:03:00.0";

    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "nm-pci-XXXXXX").string();
        root_ = ::mkdtemp(pattern.data());
        t.sys = (root_ / "sys").string();
        t.proc = (root_ / "proc").string();
        t.dev = (root_ / "dev").string();
        t.real = false;
        t.write = [this](const std::string& path, std::string_view text) { return write(path, text); };
        fs::create_directories(root_ / "proc/net");
        driver("vfio-pci");
        driver("e1000e");
        device(nic, "e1000e", "7", "0x020000");
        fs::create_directories(folder(nic) / "net/eth1");
        fs::create_directories(root_ / "sys/class/net/eth1");
    }
    void TearDown() override { fs::remove_all(root_); }

    fs::path folder(const std::string& address) const { return root_ / "sys/bus/pci/devices" / address; }
    void text(const fs::path& path, const std::string& what) const {
        fs::create_directories(path.parent_path());
        std::ofstream(path) << what;
    }
    void driver(const std::string& name) const { fs::create_directories(root_ / "sys/bus/pci/drivers" / name); }
    void device(const std::string& address, const std::string& driver_name, const std::string& group, const char* class_code) const {
        fs::create_directories(folder(address));
        const std::pair<const char*, const char*> files[] = {{"vendor", "0x8086"}, {"device", "0x10d3"}, {"subsystem_vendor", "0x8086"},
                                                             {"subsystem_device", "0xa01f"}, {"revision", "0x02"}, {"class", class_code}};
        for (const auto& [name, value] : files) text(folder(address) / name, std::string(value) + "\n");
        if (!driver_name.empty()) fs::create_symlink(root_ / "sys/bus/pci/drivers" / driver_name, folder(address) / "driver");
        if (group.empty()) return;
        const auto there = root_ / "sys/kernel/iommu_groups" / group / "devices";
        fs::create_directories(there);
        fs::create_symlink(folder(address), there / address);
        fs::create_symlink(there.parent_path(), folder(address) / "iommu_group");
    }
    void process(const std::string& pid, const std::string& command, const std::string& has) const {
        text(root_ / "proc" / pid / "comm", command + "\n");
        fs::create_directories(root_ / "proc" / pid / "fd");
        fs::create_symlink(has, root_ / "proc" / pid / "fd/3");
    }
    void route(const std::string& line) const {
        std::ofstream(root_ / "proc/net/route")
            << "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" << line << "\n";
    }

    int write(const std::string& path, std::string_view what) {
        log_ += fs::path(path).lexically_relative(root_ / "sys/bus/pci").string() + "=" + std::string(what) + ";";
        const fs::path p(path);
        if (refuse_.count(p.filename()) != 0) return refuse_[p.filename()];
        if (p.filename() == "driver_override") {
            override_[p.parent_path().filename()] = std::string(what.substr(0, what.find('\n')));
        } else if (p.filename() == "unbind") {
            fs::remove(folder(std::string(what)) / "driver");
        } else if (p.filename() == "drivers_probe") {
            const auto address = std::string(what);
            if (fs::exists(folder(address) / "driver")) return 0;
            const auto name = override_[address].empty() ? own_ : override_[address];
            if (name.empty() || (name == "vfio-pci" && !vfio_takes_it_)) return EINVAL;
            fs::create_symlink(root_ / "sys/bus/pci/drivers" / name, folder(address) / "driver");
        }
        return 0;
    }

    tree t;
    fs::path root_;
    std::string log_, own_ = "e1000e";
    std::map<std::string, int> refuse_;
    std::map<std::string, std::string> override_;
    bool vfio_takes_it_ = true;
};

TEST(PciAddress, IsCompleted) {
    using nm::sys::pci_address;
    EXPECT_EQ(pci_address("0000:03:00.0"), "0000:03:00.0");
    EXPECT_EQ(pci_address("3:0.0"), "0000:03:00.0");
    EXPECT_EQ(pci_address("03:1F.7"), "0000:03:1f.7");
    EXPECT_EQ(pci_address("10000:e1:00.0"), "10000:e1:00.0");  // VMD's domains
    for (const char* bad : {"", ".", ":", "3", "3:0", "3:0.8", "3:20.0", "100:0.0", "0:0:0:0.0", "eth0", "0000:03:00.0x", "g:0.0", "0000:03:00.",
                            ":3:0.0", "3::0.0", " 3:0.0", "-3:0.0", "0x3:0.0", "3:0.-1", "../../etc", "00000000003:0.0"})
        EXPECT_EQ(pci_address(bad), "") << bad;
}

TEST_F(Pci, IsDescribed) {
    device("0000:03:00.1", "e1000e", "7", "0x020000");
    device("0000:03:00.2", "", "7", "0x020000");
    device("0000:00:1c.0", "pcieport", "7", "0x060400");
    auto d = nm::sys::pci::query(t, "3:0.0");
    ASSERT_TRUE(d) << d.error().text;
    EXPECT_EQ(d->address, nic);
    EXPECT_EQ(d->ids.vendor, 0x8086);
    EXPECT_EQ(d->ids.device, 0x10d3);
    EXPECT_EQ(d->ids.subsystem_device, 0xa01f);
    EXPECT_EQ(d->ids.revision, 2);
    EXPECT_EQ(d->ids.class_code, 0x020000U);
    EXPECT_EQ(d->driver, "e1000e");
    EXPECT_EQ(d->iommu_group, "7");
    // One without a driver, or a bridge's port, is in nobody's way.
    EXPECT_EQ(d->group_mates, std::vector<std::string>{"0000:03:00.1"});
    EXPECT_EQ(d->interfaces, std::vector<std::string>{"eth1"});
    EXPECT_FALSE(d->carries_default_route);
    EXPECT_FALSE(d->in_use);
    EXPECT_EQ(nm::sys::pci::query(t, "4:0.0").error().code.value(), ENODEV);
    EXPECT_EQ(nm::sys::pci::query(t, "eth1").error().code.value(), EINVAL);
}

TEST_F(Pci, ListsNetworkDevicesOnly) {
    device("0000:00:1f.0", "", "", "0x060100");
    device("0000:05:00.0", "", "", "0x028000");
    fs::create_directories(folder("0000:05:00.0") / "virtio3/net/wl0");
    auto all = nm::sys::pci::network_devices(t);
    ASSERT_TRUE(all);
    ASSERT_EQ(all->size(), 2U);
    EXPECT_EQ((*all)[0].address, nic);
    text(folder("0000:00:1f.0") / "vendor", "0x1af4\n");
    text(folder("0000:00:1f.0") / "device", "0x1110\n");
    EXPECT_EQ(nm::sys::pci::network_devices(t)->size(), 3U) << "a port that is passed through is in a memory device";
    EXPECT_EQ((*all)[1].address, "0000:05:00.0");
    EXPECT_EQ((*all)[1].interfaces, std::vector<std::string>{"wl0"});
    EXPECT_TRUE((*all)[1].iommu_group.empty());
    fs::remove_all(root_ / "sys/bus");
    EXPECT_TRUE(nm::sys::pci::network_devices(t)->empty());
}

TEST_F(Pci, FindsTheDefaultRoute) {
    const auto carries = [&] { return nm::sys::pci::query(t, nic)->carries_default_route; };
    route("eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0");
    EXPECT_FALSE(carries());
    route("eth1\t00000000\t010000FE\t0003\t0\t0\t0\t00000000\t0\t0\t0");
    EXPECT_TRUE(carries());
    route("eth11\t00000000\t010000FE\t0003\t0\t0\t0\t00000000\t0\t0\t0");
    EXPECT_FALSE(carries());
    route("eth1\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0");  // `unreachable default`
    EXPECT_FALSE(carries());
    const std::string zero(32, '0');
    text(root_ / "proc/net/ipv6_route", zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 1 0 00000003     eth1\n");
    EXPECT_TRUE(carries());
    text(root_ / "proc/net/ipv6_route", zero + " 40 " + zero + " 00 " + zero + " 00000400 1 0 00000001     eth1\n" +
                                            zero + " 00 " + zero + " 00 " + zero + " ffffffff 1 0 00200200       lo\n");
    EXPECT_FALSE(carries());
}

TEST_F(Pci, FindsTheDefaultRouteOnWhatStandsOnIt) {
    const auto net = root_ / "sys/class/net";
    for (const char* name : {"bond0", "bond0.7", "br0"}) fs::create_directories(net / name);
    fs::create_symlink(net / "bond0", net / "eth1/master");
    fs::create_symlink(net / "bond0.7", net / "bond0/upper_bond0.7");
    fs::create_symlink(net / "br0", net / "bond0.7/upper_br0");
    fs::create_symlink(net / "eth1", net / "br0/upper_eth1");  // a ring is not followed for ever
    EXPECT_FALSE(nm::sys::pci::query(t, nic)->carries_default_route);
    route("br0\t00000000\t010000FE\t0003\t0\t0\t0\t00000000\t0\t0\t0");
    EXPECT_TRUE(nm::sys::pci::query(t, nic)->carries_default_route);
}

TEST_F(Pci, IsInUseByWhoHasItsNode) {
    process("12", "pkt-gen", t.dev + "/vfio/77");
    EXPECT_FALSE(nm::sys::pci::query(t, nic)->in_use);
    process("13", "bridge", t.dev + "/vfio/7");
    EXPECT_TRUE(nm::sys::pci::query(t, nic)->in_use);
    const auto nodes = nm::sys::pci::vfio_nodes(t, nic);
    EXPECT_EQ(nodes.group, t.dev + "/vfio/7");
    EXPECT_EQ(nm::sys::pci::by_whom(nm::sys::pci::users_of(t, nodes)), " by bridge (process 13)");
    fs::create_directories(folder(nic) / "vfio-dev/vfio0");
    process("14", "switch", t.dev + "/vfio/devices/vfio0");
    EXPECT_EQ(nm::sys::pci::by_whom(nm::sys::pci::users_of(t, nm::sys::pci::vfio_nodes(t, nic))), " by bridge (process 13), switch (process 14)");
}

TEST_F(Pci, KnowsAMakeBelieveGroup) {
    text(root_ / "sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
    EXPECT_TRUE(nm::sys::pci::vfio_nodes(t, nic).no_iommu);
    EXPECT_EQ(nm::sys::pci::vfio_nodes(t, nic).group, t.dev + "/vfio/noiommu-7");
    EXPECT_TRUE(nm::sys::pci::query(t, nic)->iommu_group.empty());
}

TEST_F(Pci, GoesToVfioAndBack) {
    auto r = nm::sys::pci::to_vfio(t, nic, false);
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ(log_, "devices/0000:03:00.0/driver_override=vfio-pci\n;drivers/e1000e/unbind=0000:03:00.0;drivers_probe=0000:03:00.0;");
    EXPECT_EQ(nm::sys::pci::query(t, nic)->driver, "vfio-pci");
    log_.clear();
    EXPECT_TRUE(nm::sys::pci::to_vfio(t, nic, false));
    EXPECT_EQ(log_, "");
    r = nm::sys::pci::to_kernel(t, nic);
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ(log_, "devices/0000:03:00.0/driver_override=\n;drivers/vfio-pci/unbind=0000:03:00.0;drivers_probe=0000:03:00.0;");
    EXPECT_EQ(nm::sys::pci::query(t, nic)->driver, "e1000e");
    log_.clear();
    EXPECT_TRUE(nm::sys::pci::to_kernel(t, nic));
    EXPECT_EQ(log_, "");
}

TEST_F(Pci, StaysWhereItCarriesTheDefaultRoute) {
    route("eth1\t00000000\t010000FE\t0003\t0\t0\t0\t00000000\t0\t0\t0");
    auto r = nm::sys::pci::to_vfio(t, nic, false);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code.value(), EBUSY);
    EXPECT_NE(r.error().text.find("eth1"), std::string::npos);
    EXPECT_NE(r.error().text.find("--force"), std::string::npos);
    EXPECT_EQ(log_, "");
    EXPECT_TRUE(nm::sys::pci::to_vfio(t, nic, true));
}

TEST_F(Pci, GoesBackWhereVfioDoesNotTakeIt) {
    vfio_takes_it_ = false;
    fs::remove(folder(nic) / "iommu_group");
    auto r = nm::sys::pci::to_vfio(t, nic, false);
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().text.find("e1000e has it back"), std::string::npos) << r.error().text;
    EXPECT_NE(r.error().text.find("intel_iommu=on"), std::string::npos) << r.error().text;
    EXPECT_EQ(nm::sys::pci::query(t, nic)->driver, "e1000e");
    EXPECT_EQ(override_[nic], "");
}

TEST_F(Pci, SaysWhatIsMissing) {
    fs::remove(root_ / "sys/bus/pci/drivers/vfio-pci");
    auto r = nm::sys::pci::to_vfio(t, nic, false);
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().text.find("modprobe vfio-pci"), std::string::npos) << r.error().text;
    driver("vfio-pci");
    refuse_["driver_override"] = EACCES;
    r = nm::sys::pci::to_vfio(t, nic, false);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code.value(), EACCES);
    EXPECT_NE(r.error().text.find("root"), std::string::npos) << r.error().text;
    refuse_.clear();
    refuse_["unbind"] = EBUSY;
    r = nm::sys::pci::to_vfio(t, nic, false);
    ASSERT_FALSE(r);
    EXPECT_EQ(override_[nic], "") << "the next driver would be vfio-pci";
}

TEST_F(Pci, IsNotTakenFromAProgram) {
    ASSERT_TRUE(nm::sys::pci::to_vfio(t, nic, false));
    process("13", "bridge", t.dev + "/vfio/7");
    log_.clear();
    auto r = nm::sys::pci::to_kernel(t, nic);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code.value(), EBUSY);
    EXPECT_NE(r.error().text.find("bridge (process 13)"), std::string::npos) << r.error().text;
    EXPECT_EQ(log_, "");
}

TEST_F(Pci, IsFreeWhereTheKernelHasNoDriver) {
    ASSERT_TRUE(nm::sys::pci::to_vfio(t, nic, false));
    own_.clear();
    EXPECT_TRUE(nm::sys::pci::to_kernel(t, nic));
    EXPECT_EQ(nm::sys::pci::query(t, nic)->driver, "");
}

}  // namespace
