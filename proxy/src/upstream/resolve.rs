//! From a host's name to its addresses, asked anew each time: what a name stands for changes when a server fails over.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Addresses, or why there are none.
pub type Answer = io::Result<Vec<IpAddr>>;

/// Who knows the addresses of names.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `name`, in the order in which they should be tried.
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>>;
}

/// The operating system: `/etc/hosts`, DNS and whatever else it is told to ask.
#[derive(Debug)]
pub struct System;

impl Resolver for System {
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Look-ups under way: one for each name, however many ask. The system answers on threads of its own; with a name server
/// that is silent they would otherwise pile up with each attempt to connect.
#[derive(Debug)]
pub struct Names {
    resolver: Arc<dyn Resolver>,
    under_way: Arc<Mutex<UnderWay>>,
}

/// What a look-up has found; `None`: nothing yet.
type Found = Option<Result<Arc<[IpAddr]>, Box<str>>>;
type UnderWay = HashMap<Box<str>, watch::Receiver<Found>>;

impl Names {
    /// Nothing is being looked up.
    pub fn new(resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver, under_way: Arc::default() }
    }

    /// The addresses of a name, or the one that the text itself is.
    ///
    /// # Errors
    /// The name has none, or nobody could be asked. No time limit of its own: drop the future to give up.
    pub async fn look_up(&self, name: &str) -> io::Result<Arc<[IpAddr]>> {
        if let Ok(address) = name.parse() {
            return Ok(Arc::new([address]));
        }
        let mut answer = self.ask(name);
        let given = answer.wait_for(Option::is_some).await.map_err(io::Error::other)?;
        match &*given {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err(error)) => Err(io::Error::other(error.to_string())),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn ask(&self, name: &str) -> watch::Receiver<Found> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(name) {
            return answer.clone();
        }
        let (told, answer) = watch::channel(None);
        under_way.insert(name.into(), answer.clone());
        let (resolving, name, under_way) = (self.resolver.resolve(name), Box::from(name), self.under_way.clone());
        // A task of its own: whoever asked first may give up before the others.
        tokio::spawn(async move {
            let found = match resolving.await {
                Ok(found) if found.is_empty() => Err("the name has no address".into()),
                Ok(found) => Ok(found.into()),
                Err(error) => Err(error.to_string().into()),
            };
            // Whoever asks from now on gets an answer of its own.
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove::<str>(&name);
            told.send_replace(Some(found));
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Resolver for Counting {
        fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            let nth = self.0.fetch_add(1, Ordering::Relaxed) as u8;
            let known = name == "db";
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(if known { vec![IpAddr::from([127, 0, 0, nth + 1])] } else { Vec::new() })
            })
        }
    }

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_look_up_and_the_next_gets_a_new_one() {
        let asked = Arc::<AtomicUsize>::default();
        let names = Names::new(Arc::new(Counting(asked.clone())));
        let (one, other) = tokio::join!(names.look_up("db"), names.look_up("db"));
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(*names.look_up("db").await.unwrap(), [IpAddr::from([127, 0, 0, 2])]);
        assert!(names.look_up("nobody").await.is_err());
        assert_eq!(*names.look_up("::1").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(asked.load(Ordering::Relaxed), 3, "an address is not asked for");
        assert!(names.under_way.lock().unwrap().is_empty());
    }
}
