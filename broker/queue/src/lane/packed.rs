//! Lanes as the bytes of a snapshot: the loads of tenants. What is in lanes follows from the queue.

use wharf_protocol::Timestamp;

use super::{LaneId, Lanes, Tenant};
use crate::pack::{Packer, Short, Unpacker};

impl Lanes {
    pub(crate) fn pack(&self, packer: &mut Packer) {
        let Self::Tenants(tenants) = self else { return };
        packer.number(tenants.period);
        packer.number(tenants.known.len() as u64);
        for (lane, tenant) in &tenants.known {
            packer.number(u64::from(lane.0));
            packer.number(tenant.work_ms);
            packer.number(tenant.at.0);
        }
    }

    pub(crate) fn unpack(&mut self, now: Timestamp, unpacker: &mut Unpacker<'_>) -> Result<(), Short> {
        let Self::Tenants(tenants) = self else { return Ok(()) };
        tenants.period = unpacker.number()?;
        for _ in 0..unpacker.count()? {
            let lane = LaneId(unpacker.small()?);
            let (work_ms, at) = (unpacker.number()?, Timestamp(unpacker.number()?));
            if at > now || tenants.known.insert(lane, Tenant { work_ms, at, ..Tenant::default() }).is_some() {
                return Err(Short);
            }
        }
        Ok(())
    }

    /// Fills lanes with what is ready in them, in flight, and resting after a failure.
    pub(crate) fn fill(
        &mut self,
        waiting: impl Iterator<Item = (LaneId, u64)>,
        in_flight: impl Iterator<Item = LaneId>,
        resting: impl Iterator<Item = LaneId>,
    ) {
        match self {
            Self::Keys(keys) => {
                waiting.for_each(|(lane, rank)| keys.park(lane, rank));
                in_flight.chain(resting).for_each(|lane| keys.block(lane));
            }
            Self::Tenants(tenants) => {
                for (lane, rank) in waiting {
                    tenants.waiting.insert((lane, rank));
                    tenants.known.entry(lane).or_default().waiting += 1;
                }
                in_flight.for_each(|lane| tenants.known.entry(lane).or_default().in_flight += 1);
                tenants.rebuild_turns();
            }
        }
    }
}
