"""The networks: plain torch, no files, no pictures, no stages."""
