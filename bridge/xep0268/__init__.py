"""The four interactions of XEP-0268; pure."""
