//! Samples of the node as bytes. It does not know what they are for.

use flowcept_provenance::node::{Device, Disk, Memory, Sample};
use flowcept_provenance::quantity::ByteCount;

use crate::store::bytes::{In, Out};

impl Out<'_> {
    fn all(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|n| self.number(*n));
    }

    pub(super) fn sample(&mut self, sample: &Sample) {
        self.number(sample.at.0);
        self.flags(&[sample.cpu.is_some(), sample.memory.is_some(), sample.disk.is_some(), sample.network.is_some()]);
        self.all(sample.cpu.as_ref().map_or(&[][..], |cpu| cpu));
        self.number(sample.each_cpu.len() as u64);
        sample.each_cpu.iter().for_each(|cpu| self.all(cpu));
        if let Some(m) = &sample.memory {
            let used = [m.total, m.available, m.free, m.active, m.inactive, m.buffers, m.cached, m.shared, m.slab];
            let swap = [m.swap_total, m.swap_free, m.swapped_in, m.swapped_out];
            used.iter().chain(&swap).for_each(|bytes| self.number(bytes.0));
        }
        if let Some(disk) = &sample.disk {
            self.all(&[disk.total.0, disk.used.0, disk.free.0, disk.devices.len() as u64]);
            for device in &disk.devices {
                self.text(&device.name);
                self.flags(&[device.is_whole]);
                self.all(&device.counters);
            }
        }
        if let Some(interfaces) = &sample.network {
            self.number(interfaces.len() as u64);
            for (name, counters) in interfaces {
                self.text(name);
                self.all(counters);
            }
        }
    }
}

impl In<'_> {
    fn all<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.number()?;
        }
        Some(numbers)
    }

    pub(super) fn sample(&mut self) -> Option<Sample> {
        let at = self.at()?;
        let [cpu, memory, disk, network] = self.flags()?;
        Some(Sample {
            at,
            cpu: if cpu { Some(self.all()?) } else { None },
            each_cpu: self.list(Self::all)?,
            memory: if memory { Some(self.memory()?) } else { None },
            disk: if disk { Some(self.disk()?) } else { None },
            network: if network { Some(self.list(|i| Some((i.text()?.into(), i.all()?)))?) } else { None },
        })
    }

    fn memory(&mut self) -> Option<Memory> {
        let numbers: [u64; 13] = self.all()?;
        let [total, available, free, active, inactive, buffers, cached, shared, slab, rest @ ..] =
            numbers.map(ByteCount);
        let [swap_total, swap_free, swapped_in, swapped_out] = rest;
        Some(Memory {
            total,
            available,
            free,
            active,
            inactive,
            buffers,
            cached,
            shared,
            slab,
            swap_total,
            swap_free,
            swapped_in,
            swapped_out,
        })
    }

    fn disk(&mut self) -> Option<Disk> {
        let (total, used, free) = (self.bytes()?, self.bytes()?, self.bytes()?);
        let devices = self.list(|i| {
            let name = i.text()?.into();
            let [is_whole] = i.flags()?;
            Some(Device { name, is_whole, counters: i.all()? })
        })?;
        Some(Disk { total, used, free, devices })
    }
}
