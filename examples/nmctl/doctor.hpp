// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>

#include "finding.hpp"
#include "probe.hpp"

namespace nmctl {

// doctor_machine.cpp
void look_at_kernel(findings& f, const powers& p);
void look_at_privileges(findings& f, const powers& p);
void look_at_memory(findings& f, const powers& p);
void look_at_devices(findings& f, const powers& p);
void look_at_programs(findings& f);
void look_at_qemu(findings& f);
void look_at_build(findings& f);

// doctor_ports.cpp
/// An interface of this network namespace, and the best that can be done with it.
void look_at_interface(findings& f, const powers& p, const std::string& name);
/// Whether a port could be opened now. `name` as a tool would take it, with netmap: put before what is an interface or a PCI address.
void look_at_port(findings& f, const powers& p, const std::string& name);

}  // namespace nmctl
