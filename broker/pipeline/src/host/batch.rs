//! The messages of the call that runs, as its plugin asks for what was not packed.

use wasmtime::Result;
use wasmtime::component::Resource;

use crate::bindings::wharf::plugin::types;
use crate::host::{Batch, Host};

impl types::Host for Host {}

impl types::HostBatch for Host {
    fn len(&mut self, _: Resource<Batch>) -> Result<u32> {
        Ok(u32::try_from(self.call.count)?)
    }

    fn topic(&mut self, _: Resource<Batch>, i: u32) -> Result<String> {
        Ok(self.call.message(i)?.topic.as_str().to_owned())
    }

    fn key(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<Vec<u8>>> {
        Ok(self.call.message(i)?.key.as_ref().map(|key| key.to_vec()))
    }

    fn message_id(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<String>> {
        Ok(self.call.message(i)?.message_id.as_ref().map(ToString::to_string))
    }

    fn reply_to(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<String>> {
        Ok(self.call.message(i)?.reply_to.as_ref().map(ToString::to_string))
    }

    fn header(&mut self, _: Resource<Batch>, i: u32, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.call.message(i)?.headers.get(&name).map(<[u8]>::to_vec))
    }

    fn headers(&mut self, _: Resource<Batch>, i: u32) -> Result<Vec<types::Header>> {
        let headers = &self.call.message(i)?.headers;
        Ok(headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect())
    }

    fn payload_length(&mut self, _: Resource<Batch>, i: u32) -> Result<u64> {
        Ok(self.call.message(i)?.payload.len() as u64)
    }

    fn payload(&mut self, _: Resource<Batch>, i: u32) -> Result<Vec<u8>> {
        Ok(self.call.message(i)?.payload.to_vec())
    }

    fn payload_range(&mut self, _: Resource<Batch>, i: u32, start: u64, length: u32) -> Result<Vec<u8>> {
        let payload = &self.call.message(i)?.payload;
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(payload.len());
        let end = start.saturating_add(length as usize).min(payload.len());
        Ok(payload[start..end].to_vec())
    }

    fn priority(&mut self, _: Resource<Batch>, i: u32) -> Result<u8> {
        Ok(self.call.message(i)?.priority)
    }

    fn attempt(&mut self, _: Resource<Batch>, i: u32) -> Result<u32> {
        Ok(self.call.item(i)?.attempt)
    }

    fn published_at(&mut self, _: Resource<Batch>, i: u32) -> Result<u64> {
        Ok(self.call.item(i)?.published_at.unwrap_or(self.call.now).0)
    }

    fn deadline(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<u64>> {
        let item = self.call.item(i)?;
        let published_at = item.published_at.unwrap_or(self.call.now);
        Ok(item.message.ttl.map(|ttl| published_at.after(ttl).0))
    }

    fn drop(&mut self, _: Resource<Batch>) -> Result<()> {
        Ok(())
    }
}
